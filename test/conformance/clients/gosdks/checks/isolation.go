package checks

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// isolation checks that another client without these capabilities, which works at the
// same time, gets none of the client's requests, and the other way round.
func isolation(ctx context.Context, r run) error {
	o := &Options{URL: r.URL, Revision: r.Revision, Name: r.Name + "-other", Roots: true}
	other, err := r.connect(ctx, o)
	if err != nil {
		return err
	}
	defer other.Close()
	var mine, others error
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < 3 && mine == nil; i++ {
			mine = errors.Join(asked(ctx, r, fmt.Sprint(i)), filledIn(ctx, r, fmt.Sprint(i)))
		}
	})
	wg.Go(func() {
		for i := 0; i < 6 && others == nil; i++ {
			others = errors.Join(rooted(ctx, other, o.Root()), slow(ctx, other, o.Name, 2, 5))
		}
	})
	wg.Wait()
	return errors.Join(mine, others, differ("requests to the other client", recorded(o, &o.stray), []string(nil)),
		differ("log messages to the other client", recorded(o, &o.logged), []any(nil)))
}
