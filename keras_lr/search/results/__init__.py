"""Results of a sweep: a row for each trial, the valley of each optimizer, reports and plots."""
