package queue

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/postcard-mms/postcard/internal/mms"
)

// A task of asynq v0.26 is a hash, and the task's id in a list or a sorted set that
// depends on its state. Redis may lose one and keep the other: when it is full, it
// evicts single keys (maxmemory-policy allkeys-lru). So a hash alone does not show that
// its task will run.

// queueKey returns the name of a key of an asynq queue.
func queueKey(queue, part string) string { return "asynq:{" + queue + "}:" + part }

// taskKeyPart precedes the id of a task in the key of its hash.
const taskKeyPart = "t:"

// readTasks returns two values for each task id in ARGV[2], ARGV[3], ...: the state in
// its hash, "" without a hash and "broken" without the data of the task; and its score in
// the set of its state, if it is there: when a delayed task is due, or when the lease of
// an active one ends. ARGV[1] is the prefix of the hashes.
var readTasks = redis.NewScript(`
local sets = {scheduled = KEYS[1], retry = KEYS[2], active = KEYS[3]}
local found = {}
for i = 2, #ARGV do
	local task, state, at = redis.pcall("HMGET", ARGV[1] .. ARGV[i], "state", "msg"), "broken", ""
	if not task.err then
		if not task[1] and not task[2] then
			state = ""
		elseif task[1] and task[2] then
			state = task[1]
		end
	end
	if sets[state] then
		local score = redis.pcall("ZSCORE", sets[state], ARGV[i])
		if type(score) == "string" then
			at = score
		end
	end
	table.insert(found, state)
	table.insert(found, at)
end
return found`)

// removeTask removes what is left of a task that is in no list of pending tasks, unless
// a worker may be running it. If the hash has lost its data, the id may still be in the
// list of active tasks. KEYS[1] is the hash, ARGV[1] the task's id.
var removeTask = redis.NewScript(`
local task = redis.pcall("HMGET", KEYS[1], "state", "msg")
if not task.err and task[1] == "active" and task[2] then
	return 0
end
redis.pcall("LREM", KEYS[2], 1, ARGV[1])
for i = 3, 5 do
	redis.pcall("ZREM", KEYS[i], ARGV[1])
end
return redis.call("DEL", KEYS[1])`)

// foundTask is the result of readTasks for a task.
type foundTask struct {
	state string
	at    time.Time // when a delayed task is due, or the lease of an active one ends; zero if it is in no set
}

// maxForwardDelay is how late asynq may move a delayed task to the pending ones, once its
// message is due. It does so every second, by the clocks of the workers.
const maxForwardDelay = 30 * time.Second

// A worker renews the leases of its tasks every 5 s, for 30 s. So between these two, the
// lease is one of a worker that was alive in the last seconds.
const (
	minCurrentLease = 20 * time.Second
	maxCurrentLease = 40 * time.Second
)

// TaskStates returns the state of each task. A pending task is reported as lost only when
// the list of its queue, read as a whole, does not contain it; so the cost grows with that
// list.
//
// A task whose delay ends long after its message is due was delayed by a worker whose clock
// was wrong. Asynq compares delays and leases with the clock of each worker, and so does
// TaskStates.
func (c *Client) TaskStates(ctx context.Context, checks []mms.TaskCheck) ([]mms.TaskState, error) {
	states := make([]mms.TaskState, len(checks))
	for _, q := range queues {
		var positions []int // of the queue's tasks in checks
		for i, check := range checks {
			if queueOf(check.Task) == q.name {
				positions = append(positions, i)
			}
		}
		if len(positions) == 0 {
			continue
		}
		if err := c.queueTaskStates(ctx, q.name, checks, positions, states); err != nil {
			return nil, err
		}
	}
	return states, nil
}

// queueTaskStates sets the states of the tasks at the positions, which are in one queue.
func (c *Client) queueTaskStates(ctx context.Context, queue string, checks []mms.TaskCheck, positions []int, states []mms.TaskState) error {
	ids := make([]string, len(positions))
	for i, position := range positions {
		ids[i] = taskID(checks[position].Task)
	}
	found, err := c.readTasks(ctx, queue, ids)
	if err != nil {
		return err
	}
	var pending []string
	for i, position := range positions {
		states[position] = found[i].taskState(checks[position].Wait == 0)
		if found[i].state == "pending" {
			pending = append(pending, ids[i])
		}
	}
	lost, err := c.notListed(ctx, queue, pending)
	if err != nil || len(lost) == 0 {
		return err
	}
	for i, position := range positions {
		if slices.Contains(lost, ids[i]) {
			states[position] = mms.TaskLost
		}
	}
	return nil
}

// taskState returns the state of a task, without considering the list of pending ones.
// An active task whose message is queued has just been dequeued, or its worker has died, or
// it will never run again (asynq issue 1144). It counts as stuck unless a worker has
// renewed its lease lately: a second task is harmless.
func (t foundTask) taskState(messageIsDue bool) mms.TaskState {
	switch t.state {
	case "":
		return mms.TaskMissing
	case "pending":
		return mms.TaskPresent
	case "scheduled", "retry":
		if t.at.IsZero() || messageIsDue && time.Until(t.at) > maxForwardDelay {
			return mms.TaskLost
		}
		return mms.TaskPresent
	case "active":
		if left := time.Until(t.at); left > minCurrentLease && left < maxCurrentLease {
			return mms.TaskPresent
		}
		return mms.TaskStuck
	case "broken":
		return mms.TaskLost
	default:
		return mms.TaskStuck
	}
}

func (c *Client) readTasks(ctx context.Context, queue string, ids []string) ([]foundTask, error) {
	args := make([]any, 0, len(ids)+1)
	args = append(args, queueKey(queue, taskKeyPart))
	for _, id := range ids {
		args = append(args, id)
	}
	values, err := readTasks.Run(ctx, c.redis, []string{queueKey(queue, "scheduled"), queueKey(queue, "retry"), queueKey(queue, "lease")}, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("reading tasks of queue %s: %w", queue, err)
	}
	found := make([]foundTask, len(ids))
	for i := range found {
		found[i].state = values[2*i]
		if score, err := strconv.ParseFloat(values[2*i+1], 64); err == nil {
			found[i].at = time.Unix(int64(score), 0)
		}
	}
	return found, nil
}

// listPage is how many entries of a list are read with one command.
const listPage = 1000

// notListed returns the ids of the pending tasks that the queue's list does not contain.
//
// It reads the list from its end at which tasks are added, because then a task that moves
// meanwhile is still ahead. A task that was dequeued meanwhile is not pending any more.
func (c *Client) notListed(ctx context.Context, queue string, ids []string) ([]string, error) {
	missing := make(map[string]bool, len(ids))
	for _, id := range ids {
		missing[id] = true
	}
	key := queueKey(queue, "pending")
	for start := int64(0); len(missing) > 0; start += listPage {
		page, err := c.redis.LRange(ctx, key, start, start+listPage-1).Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			return nil, nil // nothing can be enqueued either, until an operator has removed the key
		}
		if err != nil {
			return nil, fmt.Errorf("reading the pending tasks of queue %s: %w", queue, err)
		}
		for _, id := range page {
			delete(missing, id)
		}
		if len(page) < listPage {
			break
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	var unlisted []string
	for id := range missing {
		unlisted = append(unlisted, id)
	}
	found, err := c.readTasks(ctx, queue, unlisted)
	if err != nil {
		return nil, err
	}
	var lost []string
	for i, id := range unlisted {
		if found[i].state == "pending" {
			lost = append(lost, id)
		}
	}
	return lost, nil
}

// AddTask enqueues the task, to be processed after its wait. It reports false if the
// queue has the task already.
func (c *Client) AddTask(ctx context.Context, check mms.TaskCheck) (bool, error) {
	return c.enqueueIn(ctx, check.Task, check.Wait)
}

// RemoveTask removes what is left of a task that is lost, as TaskStates found. Asynq's
// own command cannot: it fails when a task is missing from the list of its state, after it
// has searched the whole list.
func (c *Client) RemoveTask(ctx context.Context, t mms.Task) error {
	queue, id := queueOf(t), taskID(t)
	keys := []string{
		queueKey(queue, taskKeyPart) + id, queueKey(queue, "active"),
		queueKey(queue, "scheduled"), queueKey(queue, "retry"), queueKey(queue, "lease"),
	}
	if err := removeTask.Run(ctx, c.redis, keys, id).Err(); err != nil {
		return fmt.Errorf("removing the lost task of message %s: %w", t.MessageID, err)
	}
	return nil
}

// keyTypes are the types of a queue's keys, by the last part of their names.
var keyTypes = map[string]string{
	"pending": "list", "active": "list", "scheduled": "zset", "retry": "zset",
	"archived": "zset", "completed": "zset", "lease": "zset",
}

// queuesKey is the set of the queues' names.
const queuesKey = "asynq:queues"

// Faults are what stops the queues of messages and webhook events although Redis
// responds. Both lists are sorted.
type Faults struct {
	WrongKeys []string // keys of another type than asynq's, which another program has written
	Paused    []string // queues that an operator has paused
}

// Faults returns the faults of the queues.
func (c *Client) Faults(ctx context.Context) (Faults, error) {
	names := []string{webhookQueue, slowWebhookQueue}
	for _, q := range queues {
		names = append(names, q.name)
	}
	slices.Sort(names)
	types := map[string]*redis.StatusCmd{}
	paused := map[string]*redis.IntCmd{}
	want := map[string]string{queuesKey: "set"}
	_, err := c.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, name := range names {
			for part, keyType := range keyTypes {
				want[queueKey(name, part)] = keyType
			}
			paused[name] = p.Exists(ctx, queueKey(name, "paused"))
		}
		for key := range want {
			types[key] = p.Type(ctx, key)
		}
		return nil
	})
	if err != nil {
		return Faults{}, fmt.Errorf("reading the types of the queues' keys: %w", err)
	}
	var faults Faults
	for key, keyType := range want {
		if got := types[key].Val(); got != keyType && got != "none" {
			faults.WrongKeys = append(faults.WrongKeys, key)
		}
	}
	for _, name := range names {
		if paused[name].Val() > 0 {
			faults.Paused = append(faults.Paused, name)
		}
	}
	slices.Sort(faults.WrongKeys)
	return faults, nil
}
