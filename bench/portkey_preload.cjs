// Preloaded into Portkey's server (node --require), which has no option for either.
"use strict";
const net = require("node:net");

// It listens everywhere: here on loopback only.
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (where, ...rest) {
  if (typeof where !== "number" && typeof where !== "string") return listen.call(this, where, ...rest);
  const told = rest.find((one) => typeof one === "function");
  return listen.call(this, { port: Number(where), host: "127.0.0.1" }, told);
};

// Version 1.15.2 answers 500 to every stream on Node ("TypeError: immutable", its issue 1389): it writes headers into
// the answer that fetch gave it. With a copy whose headers may be written it works; the copy costs it microseconds.
const { fetch, Response, Headers } = globalThis;
globalThis.fetch = async (...asked) => {
  const { body, status, statusText, headers } = await fetch(...asked);
  return new Response(body, { status, statusText, headers: new Headers(headers) });
};
