package devstack

// Abandon unlocks the state directory but leaves the server running, as a killed
// launcher does.
func (p *Postgres) Abandon() { p.unlock() }

// Abandon unlocks the state directory but leaves the server running, as a killed
// launcher does.
func (r *Redis) Abandon() { r.unlock() }
