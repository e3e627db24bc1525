package stdio

// answer is what is known of the answer to one of the two requests that open a conversation.
type answer uint8

const (
	unsent     answer = iota
	unanswered        // and on its way
	accepted
	rejected // by a server that speaks the other era
	lost     // the conversation has ended
	failed   // in any other way
)

// evidence is what is known of a server's era.
type evidence struct {
	discover   answer // never unsent
	initialize answer
	// waited is set when it was waited long enough since the last change of the others.
	waited bool
}

// verdict is what follows from the evidence.
type verdict uint8

const (
	goOn verdict = iota // more answers are needed
	sendInitialize
	isModern
	isLegacy
	isLate    // ErrLateDiscover
	hasDied   // ErrDiedOfDiscover
	hasFailed // with the error of initialize, if it was sent, or else that of server/discover
)

// judge decides how to go on. A server of both eras is used as a modern one. Once initialize was sent,
// that takes the proof that the server has refused it: otherwise its process may keep to the legacy era
// whatever it answers to server/discover.
func (e evidence) judge() verdict {
	switch {
	case e.discover == lost && e.initialize != accepted:
		return hasDied
	case e.discover == failed:
		return hasFailed
	case e.initialize == unsent:
		return e.beforeInitialize()
	case e.initialize == unanswered:
		if e.discover == accepted && e.waited {
			return isLate
		}
		return goOn
	case e.initialize == lost && e.discover == unanswered:
		return goOn // the other one is lost too, at once
	case e.discover == accepted && e.initialize == rejected:
		return isModern
	case e.discover == accepted:
		return isLate
	case e.discover == unanswered && !e.waited:
		return goOn
	case e.initialize == accepted:
		return isLegacy
	}
	return hasFailed
}

func (e evidence) beforeInitialize() verdict {
	switch {
	case e.discover == accepted:
		return isModern
	case e.discover == rejected, e.waited:
		return sendInitialize
	}
	return goOn
}
