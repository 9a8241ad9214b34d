package devstack

// Abandon releases the state folder as the end of a killed launcher would: its
// server runs on.
func (p *Postgres) Abandon() { p.unlock() }

// Abandon releases the state folder as the end of a killed launcher would.
func (r *Redis) Abandon() { r.unlock() }
