package postgres_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/postgres"
	"github.com/postcard-mms/postcard/internal/testkit"
	"github.com/postcard-mms/postcard/internal/webhook"
)

// lockRounds is how often a pair of transitions runs at the same time.
const lockRounds = 2

// TestTransitionsDoNotDeadlock runs each pair of transitions at the same time on the same
// few messages. The order of locks is written down in lock_order.go.
//
// Whether statements with a wrong order deadlock is a matter of microseconds and of plans.
// So a trigger holds each row for a millisecond, the rows are stored in another order than
// that of their ids, and the two stores prefer different plans.
func TestTransitionsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	for i, a := range lockTransitions {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			f := newLockFixture(t, uint64(i))
			for _, b := range lockTransitions[i:] {
				for round := range lockRounds {
					f.race(round, a, b)
				}
			}
			f.close()
		})
	}
}

// TestClaimsOfCrossingPairsDoNotDeadlock claims, with two statements at the same time,
// messages of the same two pairs of numbers in opposite orders.
func TestClaimsOfCrossingPairsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	f := newLockFixture(t, 0)
	for range 20 {
		f.reset("queued")
		for n, recipient := range []int{0, 1, 1, 0} { // by one statement each: 0 and 1, 2 and 3
			execute(t, f.control, fmt.Sprintf(`UPDATE messages SET sender = '+14155550100', recipient = '%s' WHERE id = '%s'`, ownRecipient(recipient), f.ids[n]))
		}
		var group sync.WaitGroup
		for i, side := range f.sides {
			group.Go(func() {
				if err := side.store.ClaimAll(f.ctx, f.ids[2*i:2*i+2]); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	f.close()
}

// TestLockTransitionsHaveAnEffect checks that each transition of the tests above changes
// something when it runs alone.
func TestLockTransitionsHaveAnEffect(t *testing.T) {
	t.Parallel()
	f := newLockFixture(t, 0)
	for _, a := range slices.Concat(oneMessage, lockTransitions) {
		f.wantEffect(a)
	}
	f.close()
}

// lockTransition is a transition that locks messages in one of some states.
type lockTransition struct {
	name   string
	states []string
	run    func(*lockFixture, *lockSide) error
}

// oneMessage are transitions of one message that lock nothing else than what belongs to the
// message. Two of them cannot deadlock.
var oneMessage = []lockTransition{
	{"apply reports", []string{"submitted"}, (*lockFixture).applyReports},
	{"transient failure", []string{"sending", "in doubt"}, func(f *lockFixture, s *lockSide) error {
		return f.eachRef(s, func(ref mms.AttemptRef) error {
			_, err := s.store.RecordTransientFailure(f.ctx, ref, mms.Verdict{Outcome: mms.TransientFailure, HTTPStatus: 429}, mms.Transition{Reason: mms.ReasonServerError})
			return err
		})
	}},
	{"permanent failure", []string{"sending", "in doubt"}, func(f *lockFixture, s *lockSide) error {
		return f.eachRef(s, func(ref mms.AttemptRef) error {
			_, err := s.store.RecordPermanentFailure(f.ctx, ref, mms.Verdict{Outcome: mms.PermanentFailure, HTTPStatus: 400}, mms.ReasonServerError)
			return err
		})
	}},
	{"unknown outcome", []string{"sending", "lost"}, func(f *lockFixture, s *lockSide) error {
		return f.eachRef(s, func(ref mms.AttemptRef) error {
			_, err := s.store.RecordInDoubt(f.ctx, ref, mms.Verdict{Outcome: mms.Unknown, Reason: mms.ReasonNoResponse})
			return err
		})
	}},
	{"cancel", []string{"queued", "scheduled"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error { return s.store.Cancel(f.ctx, f.workspace, id) })
	}},
	{"retry silent", []string{"in doubt"}, func(f *lockFixture, s *lockSide) error {
		return f.eachRef(s, func(ref mms.AttemptRef) error {
			_, err := s.store.RetrySilent(f.ctx, mms.Silence{AttemptRef: ref, HTTPStatus: 500, Accepted: 50, Reported: 50}, silencePolicy)
			return err
		})
	}},
	{"stop checking", []string{"in doubt", "superseded"}, func(f *lockFixture, s *lockSide) error {
		return f.eachRef(s, func(ref mms.AttemptRef) error { return s.store.StopChecking(f.ctx, ref) })
	}},
	{"hold", []string{"in doubt"}, func(f *lockFixture, s *lockSide) error {
		return f.eachRef(s, func(ref mms.AttemptRef) error {
			_, err := s.store.Hold(f.ctx, ref, mms.ReasonAmbiguous)
			return err
		})
	}},
	{"retry in doubt", []string{"in doubt"}, func(f *lockFixture, s *lockSide) error {
		return f.eachRef(s, func(ref mms.AttemptRef) error {
			_, err := postgres.AttemptLimit{Store: s.store, Max: s.random.IntN(2) + 1}.RetryInDoubt(f.ctx, ref)
			return err
		})
	}},
	{"decide", []string{"held"}, func(f *lockFixture, s *lockSide) error {
		decisions := []mms.Decision{mms.DecideSent, mms.DecideRetry, mms.DecideGiveUp}
		return f.each(s, func(id uuid.UUID) error {
			return s.store.Decide(f.ctx, f.workspace, id, decisions[s.random.IntN(len(decisions))])
		})
	}},
	{"advance task generations", []string{"queued"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error {
			_, err := s.store.AdvanceTaskGeneration(f.ctx, mms.Task{MessageID: id, Generation: 1})
			return err
		})
	}},
	{"poll soon and back off", []string{"submitted"}, func(f *lockFixture, s *lockSide) error {
		return f.eachRef(s, func(ref mms.AttemptRef) error {
			return errors.Join(s.store.PollSoon(f.ctx, ref), s.store.BackOffUnreported(f.ctx, ref))
		})
	}},
	{"fail suppressed", []string{"suppressed"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error { return s.store.FailSuppressed(f.ctx, id) })
	}},
}

// lockTransitions are the transitions that lock several rows, and one that stands for those
// of oneMessage.
var lockTransitions = []lockTransition{
	{"transitions of one message", []string{"queued", "scheduled", "suppressed", "sending", "in doubt", "held", "submitted"}, func(f *lockFixture, s *lockSide) error {
		var errs []error
		for range 4 {
			errs = append(errs, oneMessage[s.random.IntN(len(oneMessage))].run(f, s))
		}
		return errors.Join(errs...)
	}},
	{"claim together", []string{"queued", "released"}, func(f *lockFixture, s *lockSide) error {
		return s.store.ClaimAll(f.ctx, f.some(s))
	}},
	{"claim alone", []string{"queued", "released"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error { return s.store.ClaimAlone(f.ctx, id) })
	}},
	{"record submitted", []string{"sending", "lost", "in doubt", "superseded"}, func(f *lockFixture, s *lockSide) error {
		return s.store.RecordSubmittedTogether(f.ctx, mms.EventSubmitted, f.refs(f.some(s)))
	}},
	{"adopt reports", []string{"sending", "in doubt", "superseded"}, func(f *lockFixture, s *lockSide) error {
		err := s.store.RecordSubmittedTogether(f.ctx, mms.EventReport, f.refs(f.some(s)))
		return errors.Join(err, f.applyReports(s))
	}},
	{"account error", []string{"sending", "in doubt"}, func(f *lockFixture, s *lockSide) error {
		return f.eachRef(s, func(ref mms.AttemptRef) error {
			_, err := s.store.RecordAccountError(f.ctx, ref, mms.Verdict{Outcome: mms.AccountError, HTTPStatus: 401, Reason: causes[s.random.IntN(len(causes))]})
			return err
		})
	}},
	{"reap leases", []string{"lost", "lost and passed"}, func(f *lockFixture, s *lockSide) error {
		_, err := s.store.ReapLeases(f.ctx, 100)
		return err
	}},
	{"renew leases", []string{"sending"}, func(f *lockFixture, s *lockSide) error {
		var tokens []string
		for _, id := range f.some(s) {
			tokens = append(tokens, lockToken(id))
		}
		_, err := s.store.RenewLeases(f.ctx, tokens, time.Minute)
		return err
	}},
	{"expire", []string{"expired"}, func(f *lockFixture, s *lockSide) error {
		_, err := s.store.ExpireQueued(f.ctx, 100)
		return err
	}},
	{"queue scheduled", []string{"scheduled"}, func(f *lockFixture, s *lockSide) error {
		_, _, err := s.store.QueueScheduled(f.ctx, 100)
		return err
	}},
	{"release", []string{"waiting"}, func(f *lockFixture, s *lockSide) error {
		_, err := s.store.Release(f.ctx, time.Second)
		return err
	}},
	{"probe", []string{"waiting, paused"}, func(f *lockFixture, s *lockSide) error {
		_, err := s.store.Probe(f.ctx)
		return err
	}},
	{"resume", []string{"waiting, paused"}, func(f *lockFixture, s *lockSide) error {
		var errs []error
		for _, cause := range causes {
			_, err := s.store.Resume(f.ctx, cause)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}},
	{"add to the backlog", []string{"queued"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error { return s.store.AddToBacklog(f.ctx, id) })
	}},
	{"park", []string{"batch"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error { _, err := s.store.Park(f.ctx, id); return err })
	}},
	{"pause and resume a batch", []string{"batch"}, func(f *lockFixture, s *lockSide) error {
		err := s.store.SetBatchState(f.ctx, f.workspace, f.batch, mms.BatchPaused)
		return errors.Join(err, s.store.SetBatchState(f.ctx, f.workspace, f.batch, mms.BatchRunning))
	}},
	{"sync a batch", []string{"batch"}, func(f *lockFixture, s *lockSide) error {
		_, err := s.store.SyncBatch(f.ctx, 100)
		return err
	}},
	{"refute missed", []string{"superseded, accepted"}, func(f *lockFixture, s *lockSide) error {
		return s.store.RefuteMissed(f.ctx)
	}},
	{"schedule checks", []string{"in doubt"}, func(f *lockFixture, s *lockSide) error {
		return s.store.ScheduleChecks(f.ctx, f.refs(f.some(s)), time.Minute, "nothing yet")
	}},
	{"take for a task check", []string{"queued"}, func(f *lockFixture, s *lockSide) error {
		_, err := s.store.TakeForTaskCheck(f.ctx, 100, false)
		return err
	}},
	{"make all task checks due", []string{"to check later"}, func(f *lockFixture, s *lockSide) error {
		return s.store.MakeAllTaskChecksDue(f.ctx)
	}},
	{"record requeued", []string{"queued", "waiting"}, func(f *lockFixture, s *lockSide) error {
		return s.store.RecordRequeued(f.ctx, f.some(s))
	}},
	{"take unreported", []string{"submitted"}, func(f *lockFixture, s *lockSide) error {
		_, err := s.store.TakeUnreported(f.ctx, time.Minute, 100)
		return err
	}},
	{"close unreported", []string{"submitted"}, func(f *lockFixture, s *lockSide) error {
		_, err := s.store.CloseUnreported(f.ctx, time.Hour, 100)
		return err
	}},
	{"add and remove suppressions", []string{"queued", "submitted"}, func(f *lockFixture, s *lockSide) error {
		var list []mms.Suppression
		for _, n := range s.random.Perm(lockMessages) {
			list = append(list, mms.Suppression{Sender: "+14155550100", Recipient: ownRecipient(n), Reason: mms.SuppressedByAdmin})
		}
		_, err := s.store.AddSuppressions(f.ctx, list)
		errs := []error{err}
		for _, sup := range list[1:] {
			_, err := s.store.RemoveSuppression(f.ctx, sup.Sender, sup.Recipient)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}},
	{"create", []string{"queued"}, func(f *lockFixture, s *lockSide) error {
		var requests []mms.CreateRequest
		for _, n := range s.random.Perm(lockMessages) {
			request := newRequest(f.workspace)
			request.Idempotency = mms.Idempotency{Key: fmt.Sprint("key", n)}
			request.Caps = []mms.Cap{{Holder: holders[n%2], Messages: 1_000_000}, {Holder: holders[1-n%2], Messages: 1_000_000}}
			requests = append(requests, request)
		}
		return s.store.CreateAll(f.ctx, requests)
	}},
	{"resend", []string{"submitted", "held"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error {
			request := newRequest(f.workspace)
			request.ResendOf = id
			return s.store.CreateAll(f.ctx, []mms.CreateRequest{request})
		})
	}},
	{"create a batch", []string{"queued"}, func(f *lockFixture, s *lockSide) error {
		request := newBatchRequest(f.workspace)
		request.Caps = []mms.Cap{{Holder: holders[0], Messages: 1_000_000}, {Holder: holders[1], Messages: 1_000_000}}
		w, _, err := s.store.BeginBatch(f.ctx, request)
		if err != nil {
			return err
		}
		defer w.Rollback()
		for _, n := range s.random.Perm(4) { // senders without a rate limit
			m := newRequest(f.workspace).Message
			m.Sender, m.BatchID, m.BatchRow, m.Metadata = mms.PhoneNumber(fmt.Sprintf("+1415555020%d", n)), request.ID, n+1, map[string]string{}
			if err := w.Add(f.ctx, []mms.Message{m}); err != nil {
				return err
			}
		}
		_, err = w.Commit(f.ctx, mms.RowErrors{})
		return err
	}},
	{"mark prepared", []string{"preparing", "preparing, batch"}, func(f *lockFixture, s *lockSide) error {
		var prepared []mms.Prepared
		for i, id := range f.some(s) {
			prepared = append(prepared, mms.Prepared{MessageID: id, Contents: map[int]mms.ContentHash{1: lockContents[i%4].Hash, 2: lockContents[3].Hash}, Note: "copied"})
		}
		_, err := s.store.MarkPrepared(f.ctx, prepared)
		return err
	}},
	{"postpone preparation", []string{"preparing", "preparing, batch"}, func(f *lockFixture, s *lockSide) error {
		return s.store.PostponePreparation(f.ctx, f.some(s), time.Minute)
	}},
	{"fail preparation", []string{"preparing", "preparing, batch"}, func(f *lockFixture, s *lockSide) error {
		return s.store.FailPreparation(f.ctx, f.some(s), mms.ReasonMediaUnreachable, "404")
	}},
	{"prepare", []string{"queued", "waiting", "released", "batch"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error { return s.store.Prepare(f.ctx, id) })
	}},
	{"refit", []string{"too large"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error {
			return s.store.CreateRefit(f.ctx, id, uuid.NewSHA1(id, []byte("refit")), map[int]mms.ContentHash{1: lockContents[2].Hash})
		})
	}},
	{"save and delete uploads", []string{"with media"}, func(f *lockFixture, s *lockSide) error {
		uploads, err := f.saveUploads(s)
		errs := []error{err}
		for _, u := range uploads {
			errs = append(errs, s.store.DeleteUpload(f.ctx, f.workspace, u.ID))
		}
		return errors.Join(errs...)
	}},
	{"save contents, media checks and media ids", []string{"with media", "with old media"}, func(f *lockFixture, s *lockSide) error {
		var errs []error
		for _, n := range s.random.Perm(4) {
			c := lockContents[n]
			check := mms.MediaCheck{URL: fmt.Sprint("https://example.com/", n), Result: mms.CheckPassed, Copy: c.Hash, Preview: c.Preview}
			errs = append(errs, s.store.SaveFitted(f.ctx, lockContents[(n+1)%4].Hash, 100, c), s.store.SaveMediaCheck(f.ctx, check), s.store.SavePlivoMedia(f.ctx, c.Hash, "m"))
		}
		return errors.Join(errs...)
	}},
	{"forget media ids", []string{"with media"}, func(f *lockFixture, s *lockSide) error {
		return f.each(s, func(id uuid.UUID) error { return s.store.ForgetPlivoMedia(f.ctx, id) })
	}},
	{"mark used media ids", []string{"with media, submitted"}, func(f *lockFixture, s *lockSide) error {
		return s.store.MarkUsedPlivoMedia(f.ctx)
	}},
	{"set rate limits", []string{"waiting"}, func(f *lockFixture, s *lockSide) error {
		return errors.Join(s.store.SetRateLimit(f.ctx, "+14155550100", 0), s.store.SetRateLimit(f.ctx, "+14155550101", time.Duration(1+s.random.IntN(1000))*time.Microsecond))
	}},
	{"change senders", []string{"waiting"}, func(f *lockFixture, s *lockSide) error {
		rate := float64(1 + s.random.IntN(100_000))
		errs := []error{s.store.SetSenderRate(f.ctx, "+14155550101", &rate), s.store.RestSender(f.ctx, "+14155550101", s.random.IntN(2) == 0), s.store.RestSender(f.ctx, "+14155550101", false)}
		_, err := s.store.AddSender(f.ctx, "+14155550209", nil)
		return errors.Join(append(errs, err, s.store.CountSenderWeek(f.ctx), s.store.RemoveSender(f.ctx, "+14155550209"),
			s.store.SetSenderRate(f.ctx, "+14155550101", nil))...)
	}},
	{"delete expired rows", []string{"old rows", "with old media"}, func(f *lockFixture, s *lockSide) error {
		return errors.Join(s.store.DeleteExpired(f.ctx), s.store.Sessions().DeleteExpired(f.ctx))
	}},
	{"roll up stats", []string{"old changes"}, func(f *lockFixture, s *lockSide) error {
		return s.store.RollUpStats(f.ctx)
	}},
	{"release webhook events", []string{"with events"}, func(f *lockFixture, s *lockSide) error {
		_, err := s.store.ReleaseWebhookEvents(f.ctx, 100)
		return err
	}},
	{"delete and create a webhook", []string{"queued"}, func(f *lockFixture, s *lockSide) error {
		var err error
		if s.webhook != uuid.Nil {
			err = s.store.DeleteWebhook(f.ctx, f.workspace, s.webhook)
		}
		s.webhook = uuid.Must(uuid.NewV7())
		_, created := s.store.CreateWebhook(f.ctx, webhook.Endpoint{ID: s.webhook, Workspace: f.workspace, URL: "https://example.com"}, "whsec_x")
		_, tested := s.store.CreateTestEvent(f.ctx, f.workspace, s.webhook)
		return errors.Join(err, created, tested)
	}},
}

var (
	causes  = []mms.Reason{mms.ReasonCredentials, mms.ReasonCredit}
	holders = []uuid.UUID{uuid.MustParse("00000000-0000-0000-0000-00000000000a"), uuid.MustParse("00000000-0000-0000-0000-00000000000b")}
)

const lockMessages = 8

// lockContents are two previews and two pictures that have one.
var lockContents = func() []mms.Content {
	list := []mms.Content{newContent("a", 10), newContent("b", 10), newContent("c", 10), newContent("d", 10)}
	list[2].Preview, list[3].Preview = list[1].Hash, list[0].Hash
	return list
}()

// lockState is a state of a message $m: assignments to its columns, and statements that add
// what belongs to it.
type lockState struct{ columns, rows string }

var lockStates = map[string]lockState{
	"queued":               {`status = 'queued', final_at = NULL, next_attempt_at = now(), task_check_at = now()`, ``},
	"to check later":       {`status = 'queued', final_at = NULL, next_attempt_at = now(), task_check_at = now() + interval '1 hour'`, ``},
	"waiting":              {`status = 'queued', final_at = NULL, next_attempt_at = now(), task_check_at = 'infinity', backlog_state = 'waiting'`, ``},
	"waiting, paused":      {`status = 'queued', final_at = NULL, next_attempt_at = now(), task_check_at = 'infinity', backlog_state = 'waiting'`, `INSERT INTO pauses (cause, probe_at) SELECT cause, now() FROM unnest('{$causes}'::text[]) cause ON CONFLICT DO NOTHING`},
	"batch":                {`status = 'queued', final_at = NULL, next_attempt_at = now(), task_check_at = 'infinity', backlog_state = 'waiting', batch_id = '$batch'`, `UPDATE batches SET state = 'paused', sync_pending = true WHERE id = '$batch'`},
	"preparing":            {preparingColumns, insertLockMedia},
	"preparing, batch":     {preparingColumns + `, batch_id = '$batch'`, insertLockMedia},
	"released":             {`status = 'queued', final_at = NULL, next_attempt_at = now(), task_check_at = now(), backlog_state = 'released'`, ``},
	"suppressed":           {`status = 'queued', final_at = NULL, next_attempt_at = now(), task_check_at = now()`, `INSERT INTO suppressions SELECT sender, recipient, 'admin' FROM messages WHERE id = '$m' ON CONFLICT DO NOTHING`},
	"expired":              {`status = 'queued', final_at = NULL, next_attempt_at = now(), task_check_at = now(), expires_at = now()`, ``},
	"scheduled":            {`status = 'scheduled', final_at = NULL, send_at = now()`, ``},
	"sending":              {`status = 'sending', final_at = NULL, attempts = 1`, insertLockAttempt + `now() + interval '1 hour', NULL, NULL, NULL, NULL)`},
	"lost":                 {`status = 'sending', final_at = NULL, attempts = 1`, insertLockAttempt + `now(), NULL, NULL, NULL, NULL)`},
	"lost and passed":      {`status = 'submitted', final_at = NULL, attempts = 1, plivo_uuid = 'other-$m'`, insertLockAttempt + `now(), NULL, NULL, NULL, NULL)`},
	"in doubt":             {`status = 'in_doubt', final_at = NULL, attempts = 1, reason = 'plivo_server_error'`, insertLockAttempt + `now(), now(), 'unknown', NULL, now())`},
	"held":                 {`status = 'in_doubt', final_at = NULL, attempts = 1, held = true`, insertLockAttempt + `now(), now(), 'unknown', NULL, NULL)`},
	"superseded":           {`status = 'queued', final_at = NULL, attempts = 1, next_attempt_at = now(), task_check_at = now()`, insertLockAttempt + `now(), now(), 'unknown', NULL, now()); INSERT INTO silence_retries (message_id, ordinal) VALUES ('$m', 1)`},
	"superseded, accepted": {`status = 'submitted', final_at = NULL, attempts = 1, plivo_uuid = 'u-$m'`, insertLockAttempt + `now(), now(), 'accepted', 'u-$m', NULL); INSERT INTO silence_retries (message_id, ordinal) VALUES ('$m', 1)`},
	"submitted":            {`status = 'submitted', final_at = NULL, attempts = 1, plivo_uuid = 'u-$m', poll_base_at = now() - interval '1 day', updated_at = now() - interval '2 days'`, insertLockAttempt + `now(), now(), 'accepted', 'u-$m', NULL)`},
	"old rows": {``, `
INSERT INTO idempotency_keys (workspace_id, key, fingerprint, message_id, created_at) VALUES ('$workspace', 'key' || $n, decode(repeat('00', 32), 'hex'), '$m', now() - interval '2 days')
    ON CONFLICT (workspace_id, key) DO UPDATE SET created_at = EXCLUDED.created_at;
INSERT INTO daily_counts VALUES ('$workspace', now() - interval '10 days', $n, 1) ON CONFLICT DO NOTHING;
INSERT INTO api_processes (id, beat_at) VALUES ('$m', now() - interval '2 days') ON CONFLICT DO NOTHING;
INSERT INTO worker_processes (id, host, version, settings, beat_at) VALUES ('$m', '', '', '[]', now() - interval '2 days') ON CONFLICT DO NOTHING;
INSERT INTO queue_samples VALUES (now() - interval '10 days' + $n * interval '1 second', 0, 0, 0, 0, 0, 0, NULL) ON CONFLICT DO NOTHING;
INSERT INTO ended_pauses (cause, detail, since, ended_at) VALUES ('plivo_credit', '', now(), now() - interval '100 days');
INSERT INTO verifications (source, started_at) VALUES ('job', now() - interval '500 days');
INSERT INTO sessions VALUES ('$m', '', now() - interval '1 day') ON CONFLICT DO NOTHING;
INSERT INTO webhook_events (webhook_id, message_id, state, occurred_at) SELECT id, '$m', 'delivered', now() - interval '40 days' FROM webhooks`},
	"with media":            {``, insertLockMedia},
	"with media, submitted": {`status = 'submitted', final_at = NULL, attempts = 1, plivo_uuid = 'u-$m'`, insertLockAttempt + `now(), now(), 'accepted', 'u-$m', NULL);` + insertLockMedia},
	"with old media":        {``, `UPDATE media_contents SET touched_at = now() - interval '2 days'`},
	"too large":             {`status = 'failed', plivo_code = '120', plivo_uuid = 'u-$m'`, ``},
	"old changes": {``, `
INSERT INTO stats_changes SELECT '$workspace', now() - d * interval '1 day', now() - d * interval '1 day', 'canceled', '', '', 1 FROM generate_series(1, 3) d`},
	"with events": {``, `
INSERT INTO webhook_events (webhook_id, message_id) SELECT id, '$m' FROM webhooks`},
}

const insertLockAttempt = `INSERT INTO attempts (message_id, ordinal, token, sender, http_status, lease_until, finished_at, outcome, plivo_uuid, next_check_at) VALUES ('$m', 1, 'token-of-a-message-$m', '+14155550100', 500, `

const preparingColumns = `status = 'queued', final_at = NULL, next_attempt_at = now(), task_check_at = 'infinity', backlog_state = 'preparing', prepare_at = now()`

// insertLockContents stores lockContents, and Plivo's ids of them.
var insertLockContents = func() string {
	var script strings.Builder
	for _, c := range lockContents {
		preview := "NULL"
		if c.Preview != (mms.ContentHash{}) {
			preview = `'\x` + c.Preview.String() + `'`
		}
		fmt.Fprintf(&script, `
INSERT INTO media_contents (hash, type, bytes, width, height, data, preview) VALUES ('\x%[1]s', 'image/jpeg', 10, 4, 3, '\x%[2]x', %[3]s);
INSERT INTO plivo_media (content, account, media_id, uploaded_at, usable_until) VALUES ('\x%[1]s', '', 'm', now() - interval '1 hour', now() + interval '1 hour');`,
			c.Hash, c.Data, preview)
	}
	return script.String()
}()

// insertLockMedia gives a message a medium of each content.
const insertLockMedia = `INSERT INTO message_media (message_id, position, url, content) SELECT '$m', row_number() OVER (ORDER BY hash), 'https://example.com', hash FROM media_contents;`

func lockToken(id uuid.UUID) string { return "token-of-a-message-" + id.String() }

func ownRecipient(n int) mms.PhoneNumber { return mms.PhoneNumber(fmt.Sprintf("+1416555%04d", n)) }

// lockSide is one of two processes.
type lockSide struct {
	store   *postgres.Store
	random  *rand.Rand
	webhook uuid.UUID // created last
}

type lockFixture struct {
	t         *testing.T
	ctx       context.Context
	control   *postgres.Store
	sides     [2]*lockSide
	workspace uuid.UUID
	batch     uuid.UUID
	ids       []uuid.UUID
	random    *rand.Rand
}

func newLockFixture(t *testing.T, seed uint64) *lockFixture {
	t.Helper()
	database := testkit.Database(t)
	f := &lockFixture{t: t, ctx: t.Context(), random: rand.New(rand.NewPCG(1, seed))}
	f.control, f.workspace = newStoreOn(t, database, postgres.StatementTimeout)
	f.control.DB().SetMaxOpenConns(1) // with the settings below
	if err := f.control.SetRateLimit(t.Context(), "+14155550101", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := f.control.BeatAPI(t.Context(), uuid.New(), false); err != nil {
		t.Fatal(err)
	}
	newWebhook(t, f.control, f.workspace)
	newWebhook(t, f.control, f.workspace)
	f.batch = createBatch(t, f.control, f.workspace, 0).ID
	for range lockMessages {
		f.ids = append(f.ids, uuid.Must(uuid.NewV7()))
	}
	execute(t, f.control, `UPDATE api_processes SET broken_at = now() - interval '1 hour', beat_at = now() + interval '1 hour'`)
	for _, n := range []int{5, 2, 7, 0, 3, 6, 1, 4} {
		execute(t, f.control, fmt.Sprintf(`INSERT INTO messages (id, workspace_id, sender, recipient, text, status, send_at, created_at) VALUES ('%s', '%s', '+14155550100', '+14165550000', '', 'scheduled', now(), now() - interval '2 hours')`, f.ids[n], f.workspace))
	}
	execute(t, f.control, `
CREATE FUNCTION delay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN coalesce(NEW, OLD); END $$;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('message_events', 'goose_db_version') LOOP
        EXECUTE format('CREATE TRIGGER delay BEFORE INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION delay()', name);
    END LOOP;
    EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''5ms''', current_database());
END $$`)
	for i, plans := range []string{
		``,
		`EXECUTE format('ALTER DATABASE %1$I SET enable_indexscan = off; ALTER DATABASE %1$I SET enable_nestloop = off', current_database());`,
	} {
		execute(t, f.control, `DO $$ BEGIN `+plans+` END $$`)
		store := openStore(t, database, 1, postgres.StatementTimeout)
		if err := store.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.sides[i] = &lockSide{store: store, random: rand.New(rand.NewPCG(uint64(i+2), seed))}
	}
	execute(t, f.control, `SET session_replication_role = replica`) // no triggers
	return f
}

// some returns half of the messages or more, in a random order.
func (f *lockFixture) some(s *lockSide) []uuid.UUID {
	var ids []uuid.UUID
	for _, n := range s.random.Perm(lockMessages)[:lockMessages/2+s.random.IntN(lockMessages/2+1)] {
		ids = append(ids, f.ids[n])
	}
	return ids
}

func (f *lockFixture) refs(ids []uuid.UUID) []mms.AttemptRef {
	var refs []mms.AttemptRef
	for _, id := range ids {
		refs = append(refs, mms.AttemptRef{MessageID: id, Ordinal: 1})
	}
	return refs
}

func (f *lockFixture) each(s *lockSide, do func(uuid.UUID) error) error {
	var errs []error
	for _, id := range f.some(s) {
		errs = append(errs, do(id))
	}
	return errors.Join(errs...)
}

func (f *lockFixture) eachRef(s *lockSide, do func(mms.AttemptRef) error) error {
	return f.each(s, func(id uuid.UUID) error { return do(mms.AttemptRef{MessageID: id, Ordinal: 1}) })
}

func (f *lockFixture) applyReports(s *lockSide) error {
	return f.eachRef(s, func(ref mms.AttemptRef) error {
		r := mms.Report{PlivoUUID: "u-" + ref.MessageID.String(), State: "failed", Code: mms.OptedOutCode}
		_, err := s.store.ApplyReport(f.ctx, ref, r, mms.EventReport)
		return err
	})
}

// saveUploads stores four uploads, and their contents in a random order.
func (f *lockFixture) saveUploads(s *lockSide) ([]mms.Upload, error) {
	var uploads []mms.Upload
	var contents []mms.Content
	for _, n := range s.random.Perm(4) {
		u := newUpload(f.workspace, lockContents[n])
		u.Original = lockContents[(n+1)%4].Hash
		uploads, contents = append(uploads, u), append(contents, lockContents[n])
	}
	return s.store.SaveUploads(f.ctx, uploads, contents, 1_000_000)
}

// reset puts each message in one of the states.
func (f *lockFixture) reset(states ...string) {
	f.t.Helper()
	var script strings.Builder
	script.WriteString(`
DELETE FROM media_checks; DELETE FROM media_uploads; DELETE FROM media_fitted; DELETE FROM plivo_media; DELETE FROM media_contents; DELETE FROM message_media;
DELETE FROM messages WHERE resend_of IS NOT NULL; DELETE FROM message_events WHERE kind = 'refitted';
DELETE FROM attempts; DELETE FROM silence_retries; DELETE FROM pauses; DELETE FROM suppressions; DELETE FROM webhook_events; DELETE FROM stats_changes; DELETE FROM idempotency_keys;
UPDATE rate_limits SET released_until = '-infinity', next_arrival_at = now();
DELETE FROM rate_limits WHERE name LIKE '+1415555020_';
UPDATE messages SET status = 'canceled', final_at = now(), recipient = '+14165559999', attempts = 0, reason = '', plivo_uuid = NULL, plivo_code = '', next_attempt_at = NULL, task_check_at = NULL,
    backlog_state = NULL, prepare_at = NULL, held = false, poll_base_at = NULL, send_at = NULL, batch_id = NULL, expires_at = now() + interval '1 hour', updated_at = now(), task_generation = 1;`)
	script.WriteString(insertLockContents)
	pairs := f.random.Perm(lockMessages)
	for n, id := range f.ids {
		name := states[f.random.IntN(len(states))]
		state, ok := lockStates[name]
		if !ok {
			f.t.Fatalf("no state %q", name)
		}
		sender, recipient := "+14155550100", ownRecipient(n)
		if strings.HasPrefix(state.columns, "status = 'queued'") { // two messages per pair
			recipient = ownRecipient(100 + pairs[n]/2)
			if pairs[n]/2 == 0 {
				sender = "+14155550101"
			}
		}
		script.WriteString(strings.NewReplacer("$m", id.String(), "$n", fmt.Sprint(n), "$workspace", f.workspace.String(), "$batch", f.batch.String(), "$causes", string(causes[0]+","+causes[1])).Replace(`
UPDATE messages SET sender = '` + sender + `', recipient = '` + string(recipient) + `', ` + cmp.Or(state.columns, "version = 1") + ` WHERE id = '$m';
` + state.rows + ";"))
	}
	execute(f.t, f.control, script.String())
}

// race runs two transitions at the same time on messages that are in states of one of
// them, or of both.
func (f *lockFixture) race(round int, a, b lockTransition) {
	f.t.Helper()
	f.reset([][]string{slices.Concat(a.states, b.states), a.states, b.states}[round%3]...)
	errs := [2]error{}
	var group sync.WaitGroup
	for i, transition := range []lockTransition{a, b} {
		side := f.sides[(i+round)%2]
		group.Go(func() { errs[i] = transition.run(f, side) })
	}
	group.Wait()
	for i, transition := range []lockTransition{a, b} {
		// Two rollups of a day, in transactions that read repeatably, may also fail to serialize.
		// A content that is not used may be deleted before something refers to it.
		states := slices.DeleteFunc(postgres.SQLStates(errs[i]), func(state string) bool { return state == "40001" || state == "23503" })
		if len(states) > 0 {
			f.t.Errorf("%s, while %s: got SQLSTATE %s: %v", transition.name, []lockTransition{b, a}[i].name, states, errs[i])
		}
	}
}

// wantEffect checks that a transition, alone, changes something.
func (f *lockFixture) wantEffect(a lockTransition) {
	f.t.Helper()
	f.reset(a.states...)
	before := f.contents()
	testkit.Eventually(f.t, a.name+" changes something", func() bool { // transactions in other databases may delay it
		if err := a.run(f, f.sides[0]); postgres.SQLStates(err) != nil {
			f.t.Fatalf("%s, alone: %v", a.name, err)
		}
		return f.contents() != before
	})
}

// contents returns the rows that no reset changed.
func (f *lockFixture) contents() string {
	f.t.Helper()
	var all strings.Builder
	for _, table := range []string{"messages", "attempts", "pauses", "senders", "rate_limits", "suppressions", "silence_retries", "batches", "idempotency_keys", "stats_changes", "webhook_events", "webhooks", "media_uploads", "media_contents", "media_checks", "media_fitted", "plivo_media"} {
		var rows string
		if err := f.control.DB().QueryRow(`SELECT coalesce(string_agg(r::text, ' ' ORDER BY r::text), '') FROM ` + table + ` r`).Scan(&rows); err != nil {
			f.t.Fatal(err)
		}
		all.WriteString(rows)
	}
	return all.String()
}

// close checks that no deadlock was hidden by a retry. The server counts them when a
// connection ends.
func (f *lockFixture) close() {
	f.t.Helper()
	for _, side := range f.sides {
		side.store.Close()
	}
	testkit.Eventually(f.t, "the connections have ended", func() bool {
		return count(f.t, f.control, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`) == 0
	})
	if n := count(f.t, f.control, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); n != 0 {
		f.t.Errorf("got %d deadlocks, want none", n)
	}
}
