package postgres

// Statements whose plans TestGenericPlansUseIndexes checks.
var (
	TakeUnreportedStatement = takeUnreported
	MediansStatement        = mediansOfUser
	OwnersStatement         = selectOwners
	VersionsStatement       = selectVersions

	TakeForTaskCheckStatement    = takeForTaskCheck
	SomeWithoutProgressStatement = someWithoutProgress
)

// Statements whose plans TestSharedStatementsReadOnlyTheirMessages checks.
const (
	ClaimMessagesStatement   = claimMessages
	RecordSubmittedStatement = recordSubmitted
)

// Statements whose plans TestWebhookPlansUseIndexes checks.
const (
	ReleaseEventsStatement         = releaseEvents
	FailEventsStatement            = failEvents
	ClaimEventStatement            = claimEvent
	MarkSlowStatement              = markSlow
	RecordDeliveryStatement        = recordDelivery
	RecordSettledDeliveryStatement = recordSettledDelivery
)
