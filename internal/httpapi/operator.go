package httpapi

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/identity"
	"github.com/postcard-mms/postcard/internal/invalid"
	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/operator"
)

// Operator does what the operator's endpoints show and change. The methods that change a
// sender return violations as invalid.Fields, and otherwise operator.ErrNoSender or
// operator.ErrSenderOfEnvironment.
type Operator interface {
	Health(ctx context.Context, period time.Duration) (operator.Health, error)
	Senders(ctx context.Context) ([]operator.Sender, error)
	InboundURL() string
	AddSender(ctx context.Context, number string, rate *float64, violations invalid.Fields) (mms.PhoneNumber, error)
	SetRate(ctx context.Context, number string, rate *float64, violations invalid.Fields) (mms.PhoneNumber, error)
	Rest(ctx context.Context, number string, rest bool) (mms.PhoneNumber, error)
	Remove(ctx context.Context, number string) (mms.PhoneNumber, error)
	Settings() []operator.Setting
	Workers(ctx context.Context) ([]operator.Process, error)
	Verifications(ctx context.Context) ([]operator.Verification, error)
}

const (
	healthPath        = "/api/admin/health"
	sendersPath       = "/api/admin/senders"
	settingsPath      = "/api/admin/settings"
	verificationsPath = "/api/admin/verifications"
)

// healthPeriod is the period of the samples that getHealth returns.
const healthPeriod = 24 * time.Hour

// Process is an api or worker process.
type Process struct {
	ID          uuid.UUID     `json:"id" format:"uuid" doc:"The ID of the process."`
	Kind        operator.Kind `json:"kind" enum:"api,worker" doc:"The kind of the process."`
	Host        string        `json:"host,omitempty" doc:"The name of its machine or container."`
	Version     string        `json:"version,omitempty" doc:"The version of Postcard that it runs."`
	Alive       bool          `json:"alive" doc:"Whether it sent a heartbeat in the last 20 seconds."`
	StartedAt   time.Time     `json:"startedAt" doc:"When it started."`
	HeartbeatAt time.Time     `json:"heartbeatAt" doc:"When it sent its last heartbeat."`
}

// QueueSample counts the open messages at a time.
type QueueSample struct {
	At        time.Time `json:"at" doc:"When the messages were counted."`
	Queued    int       `json:"queued" doc:"Messages in status queued."`
	Waiting   int       `json:"waiting" doc:"Queued messages that wait in the backlog."`
	Preparing int       `json:"preparing" doc:"Queued messages whose pictures are being prepared."`
	Sending   int       `json:"sending" doc:"Messages in status sending."`
	InDoubt   int       `json:"inDoubt" doc:"Messages in status in_doubt."`
	Held      int       `json:"held" doc:"Messages in doubt that are held for a decision."`
	Tasks     *int      `json:"tasks,omitempty" doc:"Tasks in Redis. Absent if Redis did not answer."`
}

// PlivoAccount is what is known about the Plivo account.
type PlivoAccount struct {
	CheckedAt    *time.Time `json:"checkedAt,omitempty" doc:"When Plivo was asked last. Absent if it has not been asked yet."`
	ReachedAt    *time.Time `json:"reachedAt,omitempty" doc:"When Plivo last answered with the account."`
	Problem      string     `json:"problem,omitempty" doc:"Why the last query got no answer."`
	Type         string     `json:"type,omitempty" doc:"The type of the account: standard, or developer for a trial." example:"standard"`
	BillingMode  string     `json:"billingMode,omitempty" doc:"How the account is billed." example:"prepaid"`
	AutoRecharge bool       `json:"autoRecharge" doc:"Whether the credit is recharged automatically."`
	Credits      string     `json:"credits,omitempty" doc:"The credit in US dollars, as Plivo writes it." example:"27.31"`
	CallbackAt   *time.Time `json:"callbackAt,omitempty" doc:"When Plivo last called a callback."`
}

// SendingPause is a pause of all sending.
type SendingPause struct {
	Cause       mms.Reason `json:"cause" doc:"Why sending was paused." example:"plivo_credit"`
	Description string     `json:"description" doc:"The cause in a sentence."`
	Detail      string     `json:"detail,omitempty" doc:"Plivo's response."`
	Since       time.Time  `json:"since" doc:"When the pause began."`
	EndedAt     *time.Time `json:"endedAt,omitempty" doc:"When the pause ended. Absent while it lasts."`
}

// Health is the state of the installation.
type Health struct {
	Postgres      string         `json:"postgres" enum:"ok,down" doc:"Whether Postgres accepts changes."`
	Redis         string         `json:"redis" enum:"ok,down" doc:"Whether Redis accepts changes."`
	Queue         string         `json:"queue" doc:"ok, or what keeps the queue from working." example:"ok"`
	Processes     []Process      `json:"processes" nullable:"false" doc:"The processes of the last day, workers first."`
	Current       QueueSample    `json:"current" doc:"The open messages now."`
	Samples       []QueueSample  `json:"samples" nullable:"false" doc:"The open messages of the last 24 hours, oldest first. Each sample has the highest values of 12 minutes."`
	Plivo         PlivoAccount   `json:"plivo" doc:"The Plivo account."`
	Pauses        []SendingPause `json:"pauses" nullable:"false" doc:"The pauses of all sending: those that last, then those that are over, the newest first."`
	SchemaVersion int64          `json:"schemaVersion" doc:"The version of the database's schema."`
}

// Sender is a number that messages are sent from.
type Sender struct {
	Number        mms.PhoneNumber `json:"number" doc:"The number in E.164 form." example:"+14155550100"`
	InEnvironment bool            `json:"inEnvironment" doc:"Whether it is in PLIVO_SENDER_NUMBER. Such a number always exists."`
	Added         bool            `json:"added" doc:"Whether it was added by an admin."`
	Rate          *float64        `json:"rate,omitempty" doc:"The messages per minute that an admin has set, which win over the environment's. 0: no limit. Absent if none are set."`
	Interval      *float64        `json:"intervalSeconds,omitempty" doc:"The least time between two messages that is in effect, in seconds. 0: no limit. Absent until a worker has started."`
	Environment   *float64        `json:"environmentIntervalSeconds,omitempty" doc:"The least time between two messages that the workers' environment gives it, in seconds."`
	RestingSince  *time.Time      `json:"restingSince,omitempty" doc:"Since when it has rested. Absent if it is in use."`
	Waiting       int             `json:"waiting" doc:"The messages in its backlog; at most 5000."`
	WaitSeconds   int             `json:"waitSeconds" doc:"About how long they take, in seconds; longer if there are 5000 or the sender rests."`
	Week          *SenderWeek     `json:"week,omitempty" doc:"The messages of the last 7 days. Absent until they have been counted."`
	Plivo         *PlivoNumber    `json:"plivo,omitempty" doc:"What Plivo says about the number. Absent until Plivo has been asked."`
}

// SenderWeek counts the messages of a sender that were created in 7 days.
type SenderWeek struct {
	CountedAt time.Time `json:"countedAt" doc:"When they were counted."`
	Delivered int       `json:"delivered" doc:"Delivered messages."`
	Sent      int       `json:"sent" doc:"Messages that the carrier has, without a confirmed delivery."`
	Failed    int       `json:"failed" doc:"Messages that failed or were not delivered."`
}

// PlivoNumber is a number as Plivo describes it. Plivo does not document the values of the
// registrations.
type PlivoNumber struct {
	CheckedAt   time.Time `json:"checkedAt" doc:"When Plivo was asked last."`
	Problem     string    `json:"problem,omitempty" doc:"Why the last query got no answer. The other fields are older then."`
	Found       bool      `json:"found" doc:"Whether the account has the number."`
	Type        string    `json:"type,omitempty" doc:"The type of the number." example:"local"`
	MMS         bool      `json:"mms" doc:"Whether MMS is enabled."`
	TenDLC      string    `json:"tenDlc,omitempty" doc:"The status of the 10DLC registration, as Plivo writes it."`
	Campaign    string    `json:"campaign,omitempty" doc:"The 10DLC campaign."`
	TollFree    string    `json:"tollFree,omitempty" doc:"The status of the toll-free verification, as Plivo writes it."`
	MessageURL  string    `json:"messageUrl,omitempty" doc:"Where Plivo sends what people write to the number."`
	RepliesLost string    `json:"repliesLost,omitempty" doc:"Why what people write to the number is lost, if it is."`
}

// SenderList lists the senders.
type SenderList struct {
	Senders []Sender `json:"senders" nullable:"false" doc:"Those of the environment first."`
}

// SenderRequest is the body of addSender.
type SenderRequest struct {
	Number string `json:"number" doc:"The number, with MMS, rented from Plivo." example:"+14155550100"`
	Rate   string `json:"rate,omitempty" doc:"The messages per minute, a decimal from 0.01 to 3600, or 0 for no limit. Default: those of the environment." example:"15"`
}

// TransformSchema implements huma.SchemaTransformer.
func (SenderRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

// RateRequest is the body of setSenderRate.
type RateRequest struct {
	Rate string `json:"rate,omitempty" doc:"The messages per minute, a decimal from 0.01 to 3600, or 0 for no limit. Absent or empty: those of the environment again." example:"15"`
}

// TransformSchema implements huma.SchemaTransformer.
func (RateRequest) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema { return exactly(s) }

// Setting is a variable of a process.
type Setting struct {
	Name  string `json:"name" doc:"The name of the environment variable." example:"DAILY_CAP"`
	Value string `json:"value" doc:"The value in effect. Secrets are masked." example:"200000"`
	Set   bool   `json:"set" doc:"Whether the value differs from the default."`
}

// ProcessSettings are the settings of a process.
type ProcessSettings struct {
	Process
	Settings []Setting `json:"settings" nullable:"false" doc:"Its settings."`
}

// SettingList lists the settings of the processes.
type SettingList struct {
	Settings []Setting         `json:"settings" nullable:"false" doc:"The settings of the api that answers."`
	Workers  []ProcessSettings `json:"workers" nullable:"false" doc:"The workers of the last day."`
}

// Finding is the result of a check of the audit.
type Finding struct {
	Invariant string `json:"invariant" doc:"The invariant that it belongs to." example:"I1"`
	What      string `json:"what" doc:"What was counted."`
	Count     int    `json:"count" doc:"The count."`
	Broken    bool   `json:"broken" doc:"Whether the count must be 0 and is not."`
}

// Verification is a run of the audit.
type Verification struct {
	ID         int64           `json:"id" doc:"The ID of the run."`
	Source     operator.Source `json:"source" enum:"job,cli" doc:"Who ran it: the nightly job, or postcard verify."`
	StartedAt  time.Time       `json:"startedAt" doc:"When it started."`
	FinishedAt *time.Time      `json:"finishedAt,omitempty" doc:"When it finished. Absent if it runs, or was stopped."`
	Broken     int             `json:"broken" doc:"How many findings are broken."`
	Problem    string          `json:"problem,omitempty" doc:"Why it did not finish."`
	Findings   []Finding       `json:"findings" nullable:"false" doc:"The findings."`
}

// VerificationList lists runs of the audit.
type VerificationList struct {
	Verifications []Verification `json:"verifications" nullable:"false" doc:"The last runs, at most 90, the newest first."`
}

type body[T any] struct{ Body T }

func (a *api) registerOperator() {
	registerForAdmin(a, huma.Operation{
		OperationID: "getHealth", Method: http.MethodGet, Path: healthPath,
		Summary: "Get the health", Description: "Returns the state of the servers, the processes, the queue and the Plivo account.",
		Responses: map[string]*huma.Response{"200": {Description: "The health."}},
	}, a.health)
	registerForAdmin(a, huma.Operation{
		OperationID: "listSenders", Method: http.MethodGet, Path: sendersPath,
		Summary: "List the senders", Description: "Returns the numbers that messages are sent from.",
		Responses: map[string]*huma.Response{"200": {Description: "The senders."}},
	}, a.senders)
	registerForAdmin(a, huma.Operation{
		OperationID: "addSender", Method: http.MethodPost, Path: sendersPath,
		Summary: "Add a sender", Description: "Adds a number that messages are sent from. All processes use it within seconds.", DefaultStatus: http.StatusNoContent,
		Responses: map[string]*huma.Response{"204": {Description: "The sender was added."}},
	}, a.addSender)
	describeBody(a, sendersPath, SenderRequest{Number: "+14155550100", Rate: "15"})
	registerForAdmin(a, huma.Operation{
		OperationID: "removeSender", Method: http.MethodDelete, Path: sendersPath + "/{number}",
		Summary: "Remove a sender", Description: "Removes a sender that was added. Messages that wait for it are still sent from it, one every 4 seconds. A sender of the environment cannot be removed (409).",
		Responses: map[string]*huma.Response{"204": {Description: "The sender was removed."}},
		Errors:    []int{http.StatusConflict},
	}, a.removeSender)
	registerForAdmin(a, huma.Operation{
		OperationID: "setSenderRate", Method: http.MethodPost, Path: sendersPath + "/{number}/rate",
		Summary: "Set the rate of a sender", Description: "Sets how many messages are sent per minute, which wins over the environment. The workers keep to it at once.",
		Responses: map[string]*huma.Response{"204": {Description: "The rate was set."}},
	}, a.setSenderRate)
	describeBody(a, sendersPath+"/{number}/rate", RateRequest{Rate: "15"})
	registerForAdmin(a, huma.Operation{
		OperationID: "restSender", Method: http.MethodPost, Path: sendersPath + "/{number}/rest",
		Summary: "Rest a sender", Description: "Takes a sender out of use. It gets no new messages. Those that have it already stay and wait until it is put back, or expire.",
		Responses: map[string]*huma.Response{"204": {Description: "The sender rests."}},
	}, a.restSender(true))
	registerForAdmin(a, huma.Operation{
		OperationID: "putBackSender", Method: http.MethodPost, Path: sendersPath + "/{number}/put-back",
		Summary: "Put a sender back", Description: "Puts a sender that rests back into use.",
		Responses: map[string]*huma.Response{"204": {Description: "The sender is in use."}},
	}, a.restSender(false))
	registerForAdmin(a, huma.Operation{
		OperationID: "listSettings", Method: http.MethodGet, Path: settingsPath,
		Summary: "List the settings", Description: "Returns the settings of the api that answers, and of the workers. Secrets are masked.",
		Responses: map[string]*huma.Response{"200": {Description: "The settings."}},
	}, a.settings)
	registerForAdmin(a, huma.Operation{
		OperationID: "listVerifications", Method: http.MethodGet, Path: verificationsPath,
		Summary: "List the verifications", Description: "Returns the last runs of postcard verify and of the nightly audit.",
		Responses: map[string]*huma.Response{"200": {Description: "The verifications."}},
	}, a.verifications)
}

func (a *api) health(ctx context.Context, _ identity.Principal, _ *struct{}) (*body[Health], error) {
	h, err := a.Operator.Health(ctx, healthPeriod)
	if err != nil {
		return nil, err
	}
	out := Health{
		Postgres: h.Postgres, Redis: h.Redis, Queue: h.Queue, Current: QueueSample(h.Current), SchemaVersion: h.SchemaVersion,
		Processes: []Process{}, Samples: []QueueSample{}, Pauses: []SendingPause{},
		Plivo: PlivoAccount{
			CheckedAt: h.Account.CheckedAt, ReachedAt: h.Account.ReachedAt, Problem: h.Account.Problem, Type: h.Account.Type,
			BillingMode: h.Account.BillingMode, AutoRecharge: h.Account.AutoRecharge, Credits: h.Account.Credits, CallbackAt: h.Account.CallbackAt,
		},
	}
	for _, p := range h.Processes {
		out.Processes = append(out.Processes, processOf(p))
	}
	for _, s := range h.Samples {
		out.Samples = append(out.Samples, QueueSample(s))
	}
	for _, p := range h.Pauses {
		out.Pauses = append(out.Pauses, pauseOf(p, nil))
	}
	for _, p := range h.EndedPauses {
		out.Pauses = append(out.Pauses, pauseOf(p.Pause, &p.EndedAt))
	}
	return &body[Health]{Body: out}, nil
}

func processOf(p operator.Process) Process {
	return Process{ID: p.ID, Kind: p.Kind, Host: p.Host, Version: p.Version, Alive: p.Alive, StartedAt: p.StartedAt, HeartbeatAt: p.BeatAt}
}

func pauseOf(p mms.Pause, endedAt *time.Time) SendingPause {
	return SendingPause{Cause: p.Cause, Description: p.Cause.Description(), Detail: p.Detail, Since: p.Since, EndedAt: endedAt}
}

func (a *api) senders(ctx context.Context, _ identity.Principal, _ *struct{}) (*body[SenderList], error) {
	senders, err := a.Operator.Senders(ctx)
	if err != nil {
		return nil, err
	}
	list := SenderList{Senders: []Sender{}}
	for _, s := range senders {
		list.Senders = append(list.Senders, senderOf(s, a.Operator.InboundURL()))
	}
	return &body[SenderList]{Body: list}, nil
}

func senderOf(s operator.Sender, inbound string) Sender {
	out := Sender{
		Number: s.Number, InEnvironment: s.InEnvironment, Added: s.OnPage, Rate: s.Rate, Interval: secondsOf(s.Interval), Environment: secondsOf(s.Environment),
		RestingSince: s.RestingSince, Waiting: s.Waiting, WaitSeconds: int(math.Ceil(s.Wait.Seconds())),
	}
	if s.CountedAt != nil {
		out.Week = &SenderWeek{CountedAt: *s.CountedAt, Delivered: s.WeekDelivered, Sent: s.WeekSent, Failed: s.WeekFailed}
	}
	if n := s.AtPlivo; n.CheckedAt != nil {
		out.Plivo = &PlivoNumber{
			CheckedAt: *n.CheckedAt, Problem: n.Problem, Found: n.Found, Type: n.Type, MMS: n.MMS, TenDLC: n.TenDLC, Campaign: n.Campaign,
			TollFree: n.TollFree, MessageURL: n.MessageURL, RepliesLost: n.RepliesLost(inbound),
		}
	}
	return out
}

func secondsOf(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	s := d.Seconds()
	return &s
}

func (a *api) addSender(ctx context.Context, _ identity.Principal, in *struct{ Request }) (*struct{}, error) {
	var request SenderRequest
	if err := readObject(in.Request, &request); err != nil {
		return nil, err
	}
	var violations invalid.Fields
	rate := operator.ParseRate(request.Rate, &violations)
	_, err := a.Operator.AddSender(ctx, request.Number, rate, violations)
	return nil, err
}

type senderInput struct {
	Request
	Number string `path:"number" doc:"The number in E.164 form; its plus sign may be left out." example:"14155550100"`
}

func (a *api) removeSender(ctx context.Context, _ identity.Principal, in *senderInput) (*struct{}, error) {
	_, err := a.Operator.Remove(ctx, in.Number)
	return nil, err
}

func (a *api) setSenderRate(ctx context.Context, _ identity.Principal, in *senderInput) (*struct{}, error) {
	var request RateRequest
	if err := readObject(in.Request, &request); err != nil {
		return nil, err
	}
	var violations invalid.Fields
	rate := operator.ParseRate(request.Rate, &violations)
	_, err := a.Operator.SetRate(ctx, in.Number, rate, violations)
	return nil, err
}

func (a *api) restSender(rest bool) func(context.Context, identity.Principal, *senderInput) (*struct{}, error) {
	return func(ctx context.Context, _ identity.Principal, in *senderInput) (*struct{}, error) {
		_, err := a.Operator.Rest(ctx, in.Number, rest)
		return nil, err
	}
}

func (a *api) settings(ctx context.Context, _ identity.Principal, _ *struct{}) (*body[SettingList], error) {
	workers, err := a.Operator.Workers(ctx)
	if err != nil {
		return nil, err
	}
	list := SettingList{Settings: settingsOf(a.Operator.Settings()), Workers: []ProcessSettings{}}
	for _, w := range workers {
		list.Workers = append(list.Workers, ProcessSettings{Process: processOf(w), Settings: settingsOf(w.Settings)})
	}
	return &body[SettingList]{Body: list}, nil
}

func settingsOf(settings []operator.Setting) []Setting {
	list := []Setting{}
	for _, s := range settings {
		list = append(list, Setting(s))
	}
	return list
}

func (a *api) verifications(ctx context.Context, _ identity.Principal, _ *struct{}) (*body[VerificationList], error) {
	runs, err := a.Operator.Verifications(ctx)
	if err != nil {
		return nil, err
	}
	list := VerificationList{Verifications: []Verification{}}
	for _, r := range runs {
		v := Verification{ID: r.ID, Source: r.Source, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, Broken: r.Broken, Problem: r.Problem, Findings: []Finding{}}
		for _, f := range r.Findings {
			v.Findings = append(v.Findings, Finding(f))
		}
		list.Verifications = append(list.Verifications, v)
	}
	return &body[VerificationList]{Body: list}, nil
}
