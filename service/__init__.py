"""coe-router: one OpenAI-compatible entrance to many models.

The map of this package, from the street to the foundation (imports only go down; `lint-imports` holds it):

    5  cli, app, api              command line, composition root, HTTP in and out
       house, startup, config     every part held together, what must be known before the first one, settings
       learned                    what was learned, as files: answer lengths, a quality artefact
    4  pipeline                   THE path: admit -> classify -> decide -> attempt... -> settle
       reading                    what is read of a request before anything is decided
       stream_reply               a stream on its way to the caller, and its end
       settling, work             the books of one request on its way
    3  guard                      who may: virtual keys
       routing                    which deployment answers, and why (pure)
       upstream                   calling vendors: transport, one attempt, the SSE tap, wire protocols
       ledger                     where money is written down: journal, index, reports
       simulator                  scriptable vendors on loopback sockets
    2  catalog                    providers.yaml -> domain
    1  telemetry                  every log field and metric name
    0  domain, errors             frozen dataclasses and pure rules; standard library only

`classifiers/` stands beside the house and imports nothing of it.
"""

__version__ = "0.1.0"
