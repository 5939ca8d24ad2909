"""From providers.yaml to the domain: read, validate, cross-check, build; and say what an operator should know.

Where on the path: start-up and reload call `load.load`; everything above sees only the frozen `domain.catalog.Catalog`.

The map of this package, in the order in which a file walks it:

    positions      bytes -> plain Python, with the line and column of every value; the limits on size, depth and aliases
    problems       what is wrong, where, and the nearest right word; collected, sorted, raised together
    words          the closed vocabularies: protocols, modalities, capabilities, objectives, plans
    fields         the shapes of single values: exact numbers, whole numbers, names, dates, lists
    price_schema   prices, windows, tiers, engines of one's own
    schema         everything else of the file; `json_schema()` for editors
    draft          entry by entry through the schema, so that one bad entry hides no other
    crosscheck     names that must mean something, switches that need a reason
    route_order    routes that can never be reached, ties
    hosts          which base urls may be dialled
    price_book     prices with dates, windows and exchange rates -> `domain.prices.PriceBook`
    build          entries and environment -> `Catalog`
    calendars      built-in days on which a price window does not apply
    load           the one entrance: path and environment in, `Catalog` out or `RegistryError` with every problem
    check          what is inactive, unpriced, retired, out of reach; `report` turns it into text

The caller swaps: a reload builds a whole new catalogue, and a file with a problem leaves the old one serving.
"""
