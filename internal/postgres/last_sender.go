package postgres

// lastSender is the candidate that sent the newest message of any candidate to a recipient,
// or NULL if there is none. The candidates are an array.
//
// It reads one entry of messages_of_pair for each sender with a message to the recipient,
// however many messages and candidates there are.
func lastSender(recipient, candidates string) string {
	return `(
        WITH RECURSIVE used AS (
            (SELECT l.sender, l.created_at FROM messages l WHERE l.recipient = ` + recipient + `
            ORDER BY l.sender DESC, l.created_at DESC LIMIT 1)
            UNION ALL
            SELECT lower.sender, lower.created_at FROM used, LATERAL (
                SELECT l.sender, l.created_at FROM messages l WHERE l.recipient = ` + recipient + ` AND l.sender < used.sender
                ORDER BY l.sender DESC, l.created_at DESC LIMIT 1) lower
        )
        SELECT sender FROM used WHERE sender = ANY (` + candidates + `) ORDER BY created_at DESC, sender LIMIT 1)`
}
