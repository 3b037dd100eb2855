"""The node on HTTP: pages for a browser of this machine; metrics and health for other machines, too."""
