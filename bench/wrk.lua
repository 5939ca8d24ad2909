-- The requests of one wrk run: prompts from a file, numbered so that none comes twice; keys in turn; one line of JSON.
-- BENCH_PROMPTS: JSON-escaped texts, one per line, "@@" where the number goes. BENCH_HEADERS: "name: value" lines.
-- BENCH_KEYS: bearer tokens, one per line. BENCH_MODEL, BENCH_STREAM, BENCH_FROM: the first number.

local function lines(name)
  local path, found = os.getenv(name), {}
  if path and path ~= "" then
    for line in io.lines(path) do found[#found + 1] = line end
  end
  return found
end

local heads, tails = {}, {}
for number, text in ipairs(lines("BENCH_PROMPTS")) do
  local at = text:find("@@", 1, true)
  heads[number], tails[number] = text:sub(1, at - 1), text:sub(at + 2)
end

local headers = {["content-type"] = "application/json"}
for _, line in ipairs(lines("BENCH_HEADERS")) do
  local name, value = line:match("^([^:]+): (.*)$")
  headers[name] = value
end

local choices = {}
for number, key in ipairs(lines("BENCH_KEYS")) do
  choices[number] = {["authorization"] = "Bearer " .. key}
  for name, value in pairs(headers) do choices[number][name] = value end
end
if #choices == 0 then choices[1] = headers end

local before = '{"model":"' .. os.getenv("BENCH_MODEL") .. '","messages":[{"role":"user","content":"'
local after = '"}]' .. (os.getenv("BENCH_STREAM") == "1" and ',"stream":true' or "") .. "}"
local number = tonumber(os.getenv("BENCH_FROM"))

request = function()
  number = number + 1
  local text = number % #heads + 1
  return wrk.format("POST", nil, choices[number % #choices + 1], before .. heads[text] .. number .. tails[text] .. after)
end

done = function(summary, latency)
  local wrong = summary.errors
  print(string.format(
    '{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"refused":%d,"broken":%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    wrong.status, wrong.connect + wrong.read + wrong.write + wrong.timeout))
end
