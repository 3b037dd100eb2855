"""Rules of a hospital: which studies are analysed, how soon, and where their results go."""
