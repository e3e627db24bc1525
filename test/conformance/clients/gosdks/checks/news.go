package checks

import (
	"context"
	"errors"
	"slices"
)

// The resources that the checks subscribe to.
const (
	watched = "test://watched-resource"
	other   = "test://static-text"
)

func touch(ctx context.Context, r run, uri string) error {
	_, err := r.Call(ctx, "touch", args{"uri": uri}, nil)
	return err
}

// hear touches a resource until its updates have arrived twice. What came before the second
// time was sent before it: only updates of the same moment come in any order.
func hear(ctx context.Context, r run, uri string) error {
	for range 2 {
		n := len(recorded(r.Options, &r.updated))
		if err := touch(ctx, r, uri); err != nil {
			return err
		}
		if err := eventually("an update of "+uri+" arrives", func() bool { return slices.Contains(recorded(r.Options, &r.updated)[n:], uri) }); err != nil {
			return err
		}
	}
	return nil
}

// subscriptions checks that the client hears of the resources to which it subscribes, and of
// no others.
func subscriptions(ctx context.Context, r run) error {
	unsubscribe, err := r.Subscribe(ctx, watched)
	if err != nil {
		return err
	}
	if err := errors.Join(touch(ctx, r, other), hear(ctx, r, watched)); err != nil {
		return err
	}
	if err := differ("updated", slices.Compact(recorded(r.Options, &r.updated)), []string{watched}); err != nil {
		return err
	}
	if err := unsubscribe(); err != nil {
		return err
	}
	if unsubscribe, err = r.Subscribe(ctx, other); err != nil {
		return err
	}
	n := len(recorded(r.Options, &r.updated))
	if err := errors.Join(touch(ctx, r, watched), hear(ctx, r, other)); err != nil {
		return err
	}
	return errors.Join(differ("updates after the end of a subscription", slices.Compact(recorded(r.Options, &r.updated)[n:]), []string{other}), unsubscribe())
}

func changes(ctx context.Context, r run) error {
	stop, err := r.Listen(ctx)
	if err != nil {
		return err
	}
	defer stop()
	changed := func(kind string) func() bool {
		return func() bool { return slices.Contains(recorded(r.Options, &r.changed), kind) }
	}
	for _, kind := range []string{"tool", "prompt"} {
		if _, err := r.Call(ctx, "test_trigger_"+kind+"_change", args{}, nil); err != nil {
			return err
		}
		if err := eventually("the change of "+kind+"s is announced", changed(kind+"s")); err != nil {
			return err
		}
	}
	return nil
}

func logging(ctx context.Context, r run) error {
	if err := r.SetLevel(ctx, "warning"); err != nil {
		return err
	}
	for _, level := range []string{"info", "error"} {
		if _, err := r.Call(ctx, "log", args{"level": level, "data": r.Name + " " + level}, nil); err != nil {
			return err
		}
	}
	logged := func() []any { return recorded(r.Options, &r.logged) }
	if err := eventually("the log message arrives", func() bool { return len(logged()) > 0 }); err != nil {
		return err
	}
	return differ("log", logged(), []any{r.Name + " error"})
}
