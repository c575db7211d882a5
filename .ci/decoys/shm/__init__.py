"""Stands for a user's own package of this name; ours must neither find nor hide it."""

IS_THE_USERS_OWN = True
