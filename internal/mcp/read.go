package mcp

// Params are the params of a request or notification. One pass over them finds what most calls need;
// the methods look again where there is more to do.
type Params struct {
	method, name string // name is that of the target, "" if it is not a member of the params
	raw          []byte
	targets      int    // how many members have that name
	target       []byte // the last one's value
	metas        int    // how many members are a _meta
	without      [2]int // what to cut out for params without the last one
	allModern    bool   // nothing in it is for a legacy server
	retries      bool   // there are further members that a legacy server may not get
	task         []byte
}

// ReadParams reads the params of a message of that method, and their _meta. It checks them, and has the
// errors of ParseMeta.
func ReadParams(method string, raw []byte) (p Params, m Meta, err error) {
	p = Params{method: method, raw: raw}
	if method != MethodComplete { // whose target is a level deeper
		_, p.name = targetMember(method, raw)
	}
	if noParams(raw) {
		return p, m, nil
	}
	i := skipSpace(raw, 0)
	if raw[i] != '{' {
		return p, m, Members(raw, nil) // which says what is wrong
	}
	var meta []byte
	metaAt, before := -1, 0
	_, end, why := members(raw, i, func(key []byte, at, start, end int) bool {
		if metaAt >= 0 {
			p.without, metaAt = [2]int{metaAt, at}, -1
		}
		switch value := raw[start:end:end]; string(key) {
		case "_meta":
			p.metas++
			meta, metaAt = value, at
			if p.without = [2]int{at, end}; before > 0 {
				p.without[0] = before // the comma before goes too
			}
		case "task":
			p.task, p.retries = value, true
		case "inputResponses", "requestState":
			p.retries = true
		case p.name:
			p.target = value
			p.targets++
		}
		before = end
		return true
	})
	if why == "" {
		if end = skipSpace(raw, end); end < len(raw) {
			why = whyTrailing
		}
	}
	if why != "" {
		return p, m, syntaxError(raw, end, why)
	}
	m, p.allModern, err = readMeta(meta)
	return p, m, err
}

// Target is the function Target for these params.
func (p *Params) Target() (target string, err error) {
	if p.targets == 1 && TypeOf(p.target) == "string" {
		return text(p.target), nil
	}
	target, _, err = Target(p.method, p.raw)
	return target, err
}

// HasMeta reports whether there is a member _meta, null or not.
func (p *Params) HasMeta() bool { return p.metas > 0 }

// WantsTask reports whether a legacy tools/call asks for a core task.
func (p *Params) WantsTask() bool { return TypeOf(p.task) == "object" }

// Retries reports whether there may be answers or a state of a result that asked for input.
func (p *Params) Retries() bool { return p.retries }

// ToLegacy is ParamsToLegacy for these params. If hasMeta is false the result has no member _meta.
func (p *Params) ToLegacy() (params []byte, hasMeta bool, err error) {
	if p.metas == 1 && p.allModern && !p.retries {
		params = make([]byte, 0, len(p.raw)-(p.without[1]-p.without[0]))
		return append(append(params, p.raw[:p.without[0]]...), p.raw[p.without[1]:]...), false, nil
	}
	params, err = ParamsToLegacy(p.method, p.raw)
	return params, p.metas > 0, err
}
