package postgres

// PreparationsQuery is the statement whose reads TestPreparationsReadOnlyTheirPage counts.
var PreparationsQuery = selectPreparations
