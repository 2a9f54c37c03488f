"""The accuracy study: committed settings, several seeds, and the pages that are made from what the runs wrote."""
