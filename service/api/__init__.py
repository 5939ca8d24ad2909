"""HTTP in and out, no decisions.

The map:

    openai.py      the OpenAI routes
    chat_body.py   bytes of a chat request -> `ChatRequest`, or a 400 that names the field
    steering.py    the `coe` object and the `x-coe-*` headers
    rendering.py   what the pipeline answers -> ASGI: a JSON body, or a stream that notices when the client leaves
    middleware.py  pure ASGI: request id, limits, host rules
    errors.py      the error tree -> responses
"""
