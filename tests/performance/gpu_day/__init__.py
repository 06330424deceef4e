"""Everything that a machine with a card is to prove, in ten minutes and one report."""
