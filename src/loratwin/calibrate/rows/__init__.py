"""Evidence as rows of a regression: logged steps as they are, clients' figures at the twin's operating point."""
