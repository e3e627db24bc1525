//go:build linux

package partition

import (
	"errors"
	"fmt"
	"net"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// judge tells what the answer to a write means. An answer that no fault of the
// network excuses is an error too.
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
	return unknown, nil // the connection broke, or the client lost patience
}

// mustRefuse wants the answer of a write that no majority can have taken.
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
