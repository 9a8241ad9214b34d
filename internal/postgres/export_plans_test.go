package postgres

// Statements whose plans TestGenericPlansUseIndexes checks.
var (
	TakeUnreportedStatement = takeUnreported
	MediansStatement        = mediansOfUser
	OwnersStatement         = selectOwners
	VersionsStatement       = selectVersions
)

// Statements whose plans TestSharedStatementsReadOnlyTheirMessages checks.
const (
	ClaimMessagesStatement   = claimMessages
	RecordSubmittedStatement = recordSubmitted
)
