// What the clients of tasks have in common.

// report runs checks one after the other, prints why each one failed, or "", and exits.
export async function report(checks) {
  const results = {};
  for (const [name, check] of Object.entries(checks)) {
    try {
      results[name] = (await check()) ?? "";
    } catch (e) {
      results[name] = String(e?.stack ?? e);
    }
  }
  console.log(JSON.stringify(results));
  process.exit(0);
}
