"""What a sweep tells: a row for each trial, the valley of each optimizer, reports and pictures."""
