"""A simulated broker: orders are matched against an adapter's own quotes, and go wrong on request.

The matching core (`exchange`, `trading`, `matching`, `book`) knows no clock, socket or file: times and quotes come in,
reports come out. `desk` puts it behind an adapter, `store` lets the account outlive the adapter's process.
"""
