package auth

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Mailer sends a mail of plain text. Its errors contain no addresses.
type Mailer interface {
	SendMail(ctx context.Context, to, subject, text string) error
}

const (
	maxWaitingMails = 100 // in a process
	mailWorkers     = 2   // mails that a process sends at a time
	mailTimeout     = 20 * time.Second
)

// mailQueue sends mails in the background, in bounded memory. Mails that wait when the
// process stops are lost.
type mailQueue struct {
	mailer    Mailer
	publicURL string
	logger    *slog.Logger
	jobs      chan mailJob
}

// mailJob makes and sends a mail.
type mailJob func(context.Context) error

// UseMailer makes the service send mails, with links below publicURL, which has no trailing
// slash. It must be called before the first request. RunMail sends the mails.
func (s *Service) UseMailer(m Mailer, publicURL string, logger *slog.Logger) {
	s.mail = &mailQueue{mailer: m, publicURL: publicURL, logger: logger, jobs: make(chan mailJob, maxWaitingMails)}
}

// CanMail reports whether mails can be sent.
func (s *Service) CanMail() bool { return s.mail != nil }

// RunMail sends mails until ctx ends.
func (s *Service) RunMail(ctx context.Context) {
	if s.mail == nil {
		return
	}
	var workers sync.WaitGroup
	for range mailWorkers {
		workers.Go(func() { s.mail.run(ctx) })
	}
	workers.Wait()
}

// add reports whether the job was added: not if too many wait already.
func (q *mailQueue) add(job mailJob) bool {
	select {
	case q.jobs <- job:
		return true
	default:
		return false
	}
}

func (q *mailQueue) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case job := <-q.jobs:
			q.do(ctx, job)
		case <-ctx.Done():
		}
	}
}

// do finishes a job that has begun although the process stops.
func (q *mailQueue) do(ctx context.Context, job mailJob) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mailTimeout)
	defer cancel()
	if err := job(ctx); err != nil {
		q.logger.ErrorContext(ctx, "mail not sent", slog.Any("error", err))
	}
}

// mailNotice tells a user about a change of their account, if mails can be sent.
func (s *Service) mailNotice(to, subject, text string) {
	if s.mail == nil {
		return
	}
	text += "\n\nIf it was not you, ask the operator of " + s.mail.publicURL + " for help at once.\n"
	added := s.mail.add(func(ctx context.Context) error { return s.mail.mailer.SendMail(ctx, to, subject, text) })
	if !added {
		s.mail.logger.Warn("mail not sent: too many are waiting")
	}
}
