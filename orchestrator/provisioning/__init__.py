"""Topics as declared beside topics as they are: plan, consent, apply."""
