//go:build linux

package partition

import (
	"errors"
	"fmt"
	"net"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// judge returns what the answer to a write means. It also returns an error for an
// answer that no network fault explains.
func judge(err error) (verdict, error) {
	if err == nil {
		return done, nil
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		switch e.Code {
		case api.CodeNoLeader:
			return refused, nil
		case api.CodePrecondition:
			return unmet, nil
		case api.CodeOutcomeUnknown:
			return unknown, nil
		}
		return unknown, fmt.Errorf("answer %d %s: %w", e.Status, e.Code, err)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return refused, nil
	}
	return unknown, nil // the connection broke, or the client gave up
}

// mustRefuse returns an error unless the answer is that of a write without a
// majority.
func mustRefuse(err error) error {
	v, bad := judge(err)
	if bad != nil {
		return bad
	}
	if _, answered := errors.AsType[*api.Error](err); !answered || v != refused && v != unknown {
		return fmt.Errorf("a write without a majority is %s: %w", v, errors.Join(err))
	}
	return nil
}
