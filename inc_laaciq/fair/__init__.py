"""Mode `fair`: layers solved in sequence on what they really receive, then tuned together for every language."""
