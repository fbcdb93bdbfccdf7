"""Hold the passes that recognise whole functions in traced programs and simplify the rest."""
