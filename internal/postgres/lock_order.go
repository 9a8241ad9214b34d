package postgres

// The order of locks.
//
// Every statement and transaction that waits for locks takes them in this order, so that no
// two can wait for each other. TestTransitionsDoNotDeadlock runs each pair at the
// same time.
//
//  1. leases, api_processes, worker_processes, queue_samples, plivo_accounts, verifications,
//     throttles, sessions: one row, by a statement of its own
//  2. idempotency keys: an advisory lock on workspace and key, which nothing waits for, then the
//     row of idempotency_keys
//  3. batches
//  4. messages, in the order of their ids
//  5. pairs of numbers: the advisory lock on the pair, which nothing waits for, then the
//     entry in messages_one_in_flight_per_pair (claims only)
//  6. senders, in the order of their numbers, then rate_limits, in the order of their names
//  7. attempts, silence_retries, message_media, message_search, message_events: only by a
//     statement that holds their message's lock
//  8. pauses, in the order of their causes; a trigger then inserts into ended_pauses
//  9. suppressions, in the order of sender and recipient
//  10. daily_counts, in the order of their holders
//  11. webhooks, in the order of their ids
//  12. webhook_events
//  13. stats_days, then stats_changes, then stats_totals in the order of their keys
//  14. uploads: the advisory lock on the workspace (SaveUploads only), then media_uploads
//  15. media_checks
//  16. media_contents: previews, which have none themselves, then the others, each in the order
//     of their hashes
//  17. media_fitted
//  18. plivo_media, in the order of their contents
//  19. workspaces, FOR NO KEY UPDATE, which foreign keys do not wait for; then its members, then
//     its invitations. No other statement locks these.
//  20. identities, then users, then totp_factors, recovery_codes and passkeys, then
//     user_sessions, then password_resets: those of one user, by statements that lock nothing
//     else.
//
// How statements keep to it:
//
//   - A statement that changes several rows locks them first, in a CTE with ORDER BY and FOR
//     UPDATE. An UPDATE or DELETE alone locks rows in the order of its plan, which may be
//     another for each process.
//   - FOR UPDATE SKIP LOCKED waits for nothing, so its order does not matter, and it may come
//     before an earlier number, as rate_limits before messages in release. Jobs use it: they
//     leave locked rows to the next run.
//   - A statement for one message locks the message before it changes anything else. CTEs
//     that change data run when they are referenced, and otherwise at the end, so each refers
//     to the one that locked the message.
//   - INSERT waits for another transaction that inserts the same key. So several rows are
//     inserted in the order of their keys, ON CONFLICT or not.
//   - A trigger creates webhook events when a message's status changes. It locks the
//     webhooks FOR KEY SHARE, as their foreign key does. Changes of a webhook do not wait for
//     that lock and must not use FOR UPDATE, but FOR NO KEY UPDATE; a deletion waits.
//   - The media tables, from 14 on, are locked together with others of the list by
//     DeleteExpired at most, whose statements each delete rows of one table. A message refers
//     to contents without a foreign key, so creating and preparing one only reads them. The
//     foreign keys among the media tables lock contents FOR KEY SHARE, which only the deletion
//     of a content waits for. That deletion skips locked contents, and deletes nothing that
//     another row refers to, except rows of media_fitted and plivo_media.
//   - An attempt's lease is renewed without its message's lock, and skips locked attempts.
//     Statements for one attempt alone (stopChecking, recordLateResponse) lock nothing else.
