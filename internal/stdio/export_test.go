package stdio

// Used returns how many bytes are reserved now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Direct reports whether short lines are written by their callers.
func (c *Conn) Direct() bool { return c.direct != nil }
