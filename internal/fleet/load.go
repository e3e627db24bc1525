package fleet

// ServerLoad counts the calls of a server in the whole fleet.
type ServerLoad struct {
	Running int // at replicas
	Queued  int // waiting at controllers
	// Begun counts the calls that have begun since the watch of the load began. It
	// never falls, also when a replica ends. It tells of calls that are too short to
	// be seen in Running.
	Begun uint64
}

// Calls returns how many calls there are.
func (l ServerLoad) Calls() int { return l.Running + l.Queued }

// LoadNews is what has changed in the loads of the servers since a subscriber
// looked last.
type LoadNews struct {
	// Servers has the present load of each server whose load has changed. At the
	// first look it has every server with calls. A server that never was in it has
	// no calls.
	Servers map[ServerName]ServerLoad
	// Missing says in words which worker or controller has calls that are not known
	// now; "": the load is known in full. Its last known calls are counted on.
	Missing string
}
