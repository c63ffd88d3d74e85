"""Results of a population: its rows, reports and plots."""
