"""The plugin's archive and manifest for krew, the plugin manager of kubectl."""
