package postgres

// Statements whose plans TestGenericPlansUseIndexes checks.
var (
	TakeUnreportedStatement = takeUnreported
	MediansStatement        = mediansOfWorkspace
	WorkspacesStatement     = selectWorkspacesOf
	VersionsStatement       = selectVersions

	TakeForTaskCheckStatement    = takeForTaskCheck
	SomeWithoutProgressStatement = someWithoutProgress
)

// Statements whose plans TestSharedStatementsReadOnlyTheirMessages checks.
var (
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

// SuppressedStatement asks whether a recipient has opted out, as the claim does.
var SuppressedStatement = `SELECT ` + suppressed("m", "$3") + ` FROM (SELECT $1::text AS sender, $2::text AS recipient) m`

// Statements whose plans the tests of the last sender check.
var (
	LastSenderStatement          = `SELECT ` + lastSender("$1::text", "$2::text[]")
	CreateMessagesStatement      = createMessages
	InsertBatchMessagesStatement = insertBatchMessages
)

// Statements whose plans TestMediaPlansUseIndexes checks.
var (
	QueueScheduledStatement       = queueScheduled
	SelectPreparationsStatement   = selectPreparations
	SelectRefitCandidateStatement = selectRefitCandidates
	SelectClaimBlockerStatement   = selectClaimBlocker
	ClaimMessageStatement         = claimMessage
)

// Statements whose plans TestMediaPlansUseIndexes checks.
const (
	MarkPreparedStatement         = markPrepared
	PostponePreparationStatement  = postponePreparation
	FailPreparationStatement      = failPreparation
	ForgetPlivoMediaStatement     = forgetPlivoMedia
	MarkUsedPlivoMediaStatement   = markUsedPlivoMedia
	SelectMediaChecksStatement    = selectMediaChecks
	SelectQuotaUsedStatement      = selectQuotaUsed
	SelectMessagePictureStatement = selectMessagePicture
	DeleteUploadStatement         = deleteUpload
	DeleteOldUploadsStatement     = deleteOldUploads
	DeleteOldMediaChecksStatement = deleteOldMediaChecks
	DeleteUnusedContentsStatement = deleteUnusedContents
)
