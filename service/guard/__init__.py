"""Who may: virtual keys, the pepper behind them, and which addresses may be opened without them."""
