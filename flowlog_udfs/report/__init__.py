"""The daily compliance report: its document, its page, and how versions of it are kept."""
