"""The journal: what happened, on disk before anything leaves. SQLite."""
