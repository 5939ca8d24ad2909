// Asks as the official JavaScript SDK does, and says what it said: one JSON line in, one JSON line out.
//
// In:  {"id", "surface", "url", "retries", "timeout_s", "body"}
// Out: {"id", "choices": [{"index", "text", "thinking", "calls", "finish"}], "usage", "raised", "took_ms"}
//
// `choices` is what the caller has in hands: the whole answer, or what had come when the SDK raised. Every line is a
// request of its own and many may be under way; tests/sdks.py keeps one process for all of them.

import readline from "node:readline";
import OpenAI from "openai";

class Heard {
  #choices = new Map();
  usage = false;

  #choice(index) {
    if (!this.#choices.has(index)) {
      this.#choices.set(index, { index, text: "", thinking: "", calls: [], finish: null });
    }
    return this.#choices.get(index);
  }

  chunk(chunk) {
    this.usage ||= Boolean(chunk.usage);
    for (const { index, delta, finish_reason: finish } of chunk.choices) {
      this.#add(this.#choice(index), delta ?? {}, finish);
    }
  }

  whole(completion) {
    const inPieces = new Map(this.#choices);
    this.#choices.clear();
    this.usage ||= Boolean(completion.usage);
    for (const { index, message, finish_reason: finish } of completion.choices) {
      this.#add(this.#choice(index), message, finish);
      // Of a field that it doesn't know the helper keeps the last piece alone; its users take thinking from the chunks.
      if (inPieces.has(index)) {
        this.#choice(index).thinking = inPieces.get(index).thinking;
      }
    }
  }

  #add(choice, said, finish) {
    choice.text += said.content ?? "";
    choice.thinking += said.reasoning_content ?? "";
    (said.tool_calls ?? []).forEach((call, place) => {
      const kept = (choice.calls[call.index ?? place] ??= ["", ""]);
      kept[0] += call.function?.name ?? "";
      kept[1] += call.function?.arguments ?? "";
    });
    choice.finish = finish ?? choice.finish;
  }

  get choices() {
    return [...this.#choices.values()];
  }
}

async function iterate(chunks, heard) {
  for await (const chunk of chunks) {
    heard.chunk(chunk);
  }
}

const SURFACES = {
  async whole(completions, body, heard) {
    heard.whole(await completions.create({ ...body, stream: false }));
  },
  async parsed(completions, body, heard) {
    heard.whole(await completions.parse({ ...body, stream: false }));
  },
  async stream(completions, body, heard) {
    await iterate(await completions.create({ ...body, stream: true }), heard);
  },
  async with_response(completions, body, heard) {
    const { data } = await completions.create({ ...body, stream: true }).withResponse();
    await iterate(data, heard);
  },
  async helper(completions, body, heard) {
    const helper = completions.stream(body);
    helper.on("chunk", (chunk) => heard.chunk(chunk));
    heard.whole(await helper.finalChatCompletion());
  },
  async helper_iterated(completions, body, heard) {
    await iterate(completions.stream(body), heard);
  },
};

async function answer({ id, surface, url, retries, timeout_s: seconds, body }) {
  const client = new OpenAI({ baseURL: url, apiKey: "x", maxRetries: retries, timeout: seconds * 1000 });
  const heard = new Heard();
  const begun = performance.now();
  let raised = null;
  try {
    await SURFACES[surface](client.chat.completions, body, heard);
  } catch (error) {
    const { status = null, code = null, message } = error;
    raised = { name: error.constructor.name, official: error instanceof OpenAI.APIError, status, code, message };
  }
  return { id, choices: heard.choices, usage: heard.usage, raised, took_ms: performance.now() - begun };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  answer(JSON.parse(line)).then((said) => process.stdout.write(`${JSON.stringify(said)}\n`));
}
