package stdio

// Used returns how many bytes are reserved now.
func (b *Budget) Used() int64 { return b.used.Load() }

// ID returns the id that the server knows the call by.
func (p *Pending) ID() uint64 { return p.id }

// Direct reports whether short lines are written by their callers.
func (c *Conn) Direct() bool { return c.direct != nil }
