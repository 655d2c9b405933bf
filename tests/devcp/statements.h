/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Every word of SQL there is: the schema, then one statement per line of a table. A column named *_json holds JSON text and comes out as a
 * tree; a BLOB comes out as base64; 64-bit numbers of the wire come out as decimal strings because they are CAST here. Times are RFC
 * 3339 in UTC with milliseconds, so that comparing text compares time.
 *
 * What must outlive a crash is in the database file. What the next heartbeat brings anyway (table live.health) is in memory: a control
 * plane that starts anew says `need_full` and has it back within two minutes, and a heartbeat costs no fsync. */

#define STORE_SCHEMA \
        "PRAGMA journal_mode = WAL;" \
        "PRAGMA synchronous = FULL;" \
        "PRAGMA foreign_keys = ON;" \
        "ATTACH ':memory:' AS live;" \
        "CREATE TABLE IF NOT EXISTS orgs (org_id TEXT PRIMARY KEY, slug TEXT NOT NULL UNIQUE, name TEXT NOT NULL," \
        "  owner_user_id TEXT NOT NULL, provider TEXT, admin_token TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, deleted_at TEXT);" \
        "CREATE TABLE IF NOT EXISTS hosts (host_id TEXT PRIMARY KEY, org_id TEXT NOT NULL REFERENCES orgs," \
        "  boot_id TEXT NOT NULL, region TEXT, generation INTEGER NOT NULL DEFAULT 0, register_json TEXT NOT NULL," \
        "  registered_at TEXT NOT NULL, revoked_at TEXT);" \
        /* Every boot id a host ever registered with: tells a replaced one from one not seen yet. */ \
        "CREATE TABLE IF NOT EXISTS boots (host_id TEXT NOT NULL REFERENCES hosts, boot_id TEXT NOT NULL," \
        "  PRIMARY KEY (host_id, boot_id));" \
        /* generation is the highest ever numbered; the row is never deleted, so the line never starts again. host_id: NULL = nowhere. */ \
        "CREATE TABLE IF NOT EXISTS workspaces (workspace_id TEXT PRIMARY KEY, org_id TEXT NOT NULL REFERENCES orgs, host_id TEXT," \
        "  generation INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL, instance_id TEXT, private_ip TEXT, url TEXT);" \
        /* due_at: when the job may be handed out (again); '' = at once; NULL = the host has it. final: the first final state, for ever.
         * raw: exact bytes from the operator's door, which are never taken for a wanted state before they have succeeded. */ \
        "CREATE TABLE IF NOT EXISTS jobs (seq INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, host_id TEXT NOT NULL REFERENCES hosts," \
        "  org_id TEXT NOT NULL, type TEXT, workspace_id TEXT, generation INTEGER, raw INTEGER NOT NULL, payload BLOB NOT NULL," \
        "  payload_hash TEXT NOT NULL, created_at TEXT NOT NULL, due_at TEXT, state TEXT NOT NULL DEFAULT 'queued', final TEXT," \
        "  final_report_id TEXT);" \
        "CREATE INDEX IF NOT EXISTS jobs_due ON jobs (host_id, due_at) WHERE due_at IS NOT NULL;" \
        "CREATE INDEX IF NOT EXISTS jobs_line ON jobs (workspace_id, generation);" \
        "CREATE TABLE IF NOT EXISTS deliveries (delivery_id TEXT PRIMARY KEY, job_id TEXT NOT NULL, handed_at TEXT NOT NULL);" \
        "CREATE INDEX IF NOT EXISTS deliveries_job ON deliveries (job_id);" \
        "CREATE TABLE IF NOT EXISTS reports (seq INTEGER PRIMARY KEY, report_id TEXT NOT NULL UNIQUE, host_id TEXT NOT NULL, job_id TEXT," \
        "  body_json TEXT NOT NULL, received_at TEXT NOT NULL);" \
        "CREATE INDEX IF NOT EXISTS reports_job ON reports (job_id);" \
        "CREATE TABLE IF NOT EXISTS pins (template_name TEXT NOT NULL, region TEXT NOT NULL, image_digest TEXT NOT NULL," \
        "  image_ref TEXT NOT NULL, image_size_bytes TEXT, git_sha TEXT NOT NULL, notes TEXT NOT NULL, promoted_by TEXT NOT NULL," \
        "  promoted_at TEXT NOT NULL, PRIMARY KEY (template_name, region));" \
        "CREATE TABLE IF NOT EXISTS thin_amis (region TEXT PRIMARY KEY, ami_id TEXT NOT NULL, notes TEXT NOT NULL, promoted_by TEXT NOT NULL," \
        "  promoted_at TEXT NOT NULL);" \
        "CREATE TABLE IF NOT EXISTS purges (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, slug TEXT NOT NULL, org_id TEXT NOT NULL," \
        "  last_step TEXT NOT NULL, completed_at TEXT);" \
        "CREATE TABLE IF NOT EXISTS idempotency (org_id TEXT NOT NULL, idempotency_key TEXT NOT NULL, body_hash TEXT NOT NULL," \
        "  job_id TEXT NOT NULL, PRIMARY KEY (org_id, idempotency_key));" \
        /* The key a host's secrets are sealed to; pending: the one it says now, while the holder of the first has not agreed. */ \
        "CREATE TABLE IF NOT EXISTS sealing_keys (host_id TEXT PRIMARY KEY REFERENCES hosts, key_id TEXT NOT NULL," \
        "  public_key TEXT NOT NULL, pending_key_id TEXT, pending_public_key TEXT);" \
        /* Jobs that carry secrets, and the key they are sealed to; no key: the boxes came ready made. */ \
        "CREATE TABLE IF NOT EXISTS sealed (job_id TEXT PRIMARY KEY REFERENCES jobs (job_id), key_id TEXT, public_key TEXT);" \
        "CREATE TABLE IF NOT EXISTS secrets (job_id TEXT NOT NULL REFERENCES jobs (job_id), name TEXT NOT NULL, value TEXT NOT NULL," \
        "  PRIMARY KEY (job_id, name));" \
        /* Jobs whose signature is to be a bad one. */ \
        "CREATE TABLE IF NOT EXISTS signatures (job_id TEXT PRIMARY KEY REFERENCES jobs (job_id), how TEXT NOT NULL);" \
        /* roll.h says what is in it. */ \
        "CREATE TABLE IF NOT EXISTS rolls (seq INTEGER PRIMARY KEY, roll_id TEXT NOT NULL UNIQUE, roll_json TEXT NOT NULL, open INTEGER NOT NULL);" \
        "CREATE TABLE live.challenges (host_id TEXT PRIMARY KEY, bytes BLOB NOT NULL);" \
        "CREATE TABLE live.health (host_id TEXT PRIMARY KEY, last_seen_at TEXT NOT NULL, received_at TEXT, state_hash TEXT," \
        "  full_json TEXT);"

/* Every job, for the operator's eyes. */
#define JOB_COLUMNS \
        "job_id, org_id, host_id, type, workspace_id, CAST(generation AS TEXT) AS generation, payload_hash, created_at, due_at, " \
        "state, final, final_report_id "

/* When a host was last heard of, also before it was heard of in this run. */
#define LAST_SEEN "coalesce(l.last_seen_at, h.registered_at)"

/* ?1 workspace, ?3 generation. */
#define NOTHING_NEWER \
        "NOT EXISTS (SELECT 1 FROM jobs n WHERE n.workspace_id = ?1 AND n.generation > ?3 AND n.final = 'succeeded'" \
        "  AND n.type IN ('workspace.provision', 'workspace.deprovision'))"

/* What waits for the end of a conflict about its host's key. */
#define HELD_BACK \
        "(EXISTS (SELECT 1 FROM sealed s WHERE s.job_id = jobs.job_id) AND" \
        "  EXISTS (SELECT 1 FROM sealing_keys k WHERE k.host_id = jobs.host_id AND k.pending_key_id IS NOT NULL))"

#define STATEMENTS(X) \
        X(BEGIN, "BEGIN") \
        X(COMMIT, "COMMIT") \
        X(ROLLBACK, "ROLLBACK") \
        /* organizations */ \
        X(ORG_ADD, "INSERT INTO orgs VALUES (?, ?, ?, ?, ?, ?, ?, NULL)") \
        X(ORG_BY_ID, "SELECT org_id, slug, admin_token FROM orgs WHERE org_id = ?") \
        X(ORG_BY_SLUG, "SELECT org_id, slug, admin_token FROM orgs WHERE slug = ? AND deleted_at IS NULL") \
        X(ORG_TOKENS, "SELECT org_id, admin_token FROM orgs WHERE deleted_at IS NULL") \
        /* The name is free again, the token opens nothing. */ \
        X(ORG_DELETE, "UPDATE orgs SET deleted_at = ?2, slug = slug || '~' || org_id, admin_token = org_id WHERE org_id = ?1") \
        X(ORG_LIST, "SELECT o.org_id AS id, o.slug, o.name, 'active' AS status, o.created_at," \
                    "  CASE WHEN EXISTS (SELECT 1 FROM hosts h WHERE h.org_id = o.org_id) THEN 'running' ELSE 'provisioning' END" \
                    "  AS instance_status, NULL AS last_error FROM orgs o WHERE o.deleted_at IS NULL AND (?1 IS NULL OR o.slug = ?1)" \
                    "  ORDER BY o.created_at, o.slug LIMIT ?2") \
        /* hosts */ \
        X(HOST_GET, "SELECT host_id, org_id, boot_id, region, revoked_at FROM hosts WHERE host_id = ?") \
        X(HOST_REVOKE, "UPDATE hosts SET revoked_at = coalesce(revoked_at, ?2) WHERE host_id = ?1") \
        X(HOSTS_OF_ORG, "SELECT host_id FROM hosts WHERE org_id = ? AND revoked_at IS NULL ORDER BY registered_at") \
        X(HOST_PUT, "INSERT INTO hosts (host_id, org_id, boot_id, region, register_json, registered_at, generation)" \
                    "  VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (host_id) DO UPDATE SET boot_id = excluded.boot_id," \
                    "  region = excluded.region, register_json = excluded.register_json, registered_at = excluded.registered_at," \
                    "  generation = max(generation, excluded.generation)") \
        X(HOST_SEEN, "INSERT INTO live.health (host_id, last_seen_at) VALUES (?, ?)" \
                     "  ON CONFLICT (host_id) DO UPDATE SET last_seen_at = excluded.last_seen_at") \
        X(HOST_LIST, "SELECT h.host_id, h.org_id, o.slug AS org_slug, h.boot_id, CAST(h.generation AS TEXT) AS host_generation," \
                     "  h.registered_at, " LAST_SEEN " AS last_seen_at, h.register_json, l.received_at AS health_at, l.state_hash," \
                     "  l.full_json AS health_json," \
                     "  iif(k.key_id IS NULL, NULL, json_object('key_id', k.key_id, 'algorithm', 'x25519-sealedbox'," \
                     "    'public_key', k.public_key)) AS sealing_key_json," \
                     "  iif(k.pending_key_id IS NULL, 'false', 'true') AS sealing_key_conflict_json" \
                     "  FROM hosts h JOIN orgs o USING (org_id) LEFT JOIN live.health l USING (host_id)" \
                     "  LEFT JOIN sealing_keys k USING (host_id)" \
                     "  ORDER BY h.registered_at, h.host_id") \
        X(HOST_NEWEST, "SELECT h.host_id, h.region FROM hosts h LEFT JOIN live.health l USING (host_id) WHERE h.org_id = ? AND h.revoked_at IS NULL" \
                       "  ORDER BY " LAST_SEEN " DESC LIMIT 1") \
        X(HOST_NEXT, "UPDATE hosts SET generation = generation + 1 WHERE host_id = ? RETURNING generation") \
        X(HOST_RAISE, "UPDATE hosts SET generation = max(generation, ?2) WHERE host_id = ?1") \
        X(HOST_LAST_SEEN, "SELECT " LAST_SEEN " AS last_seen_at FROM hosts h LEFT JOIN live.health l USING (host_id) WHERE h.host_id = ?") \
        X(BOOT_ADD, "INSERT OR IGNORE INTO boots VALUES (?, ?)") \
        X(BOOT_GET, "SELECT 1 FROM boots WHERE host_id = ? AND boot_id = ?") \
        /* sealing keys */ \
        X(SEALING_KEY_GET, "SELECT key_id, public_key, pending_key_id, pending_public_key FROM sealing_keys WHERE host_id = ?") \
        X(SEALING_KEY_PUT, "INSERT INTO sealing_keys (host_id, key_id, public_key) VALUES (?, ?, ?) ON CONFLICT (host_id) DO UPDATE SET" \
                           "  key_id = excluded.key_id, public_key = excluded.public_key, pending_key_id = NULL," \
                           "  pending_public_key = NULL") \
        X(SEALING_KEY_DISPUTE, "UPDATE sealing_keys SET pending_key_id = ?2, pending_public_key = ?3 WHERE host_id = ?1") \
        X(CHALLENGE_PUT, "INSERT OR REPLACE INTO live.challenges VALUES (?, ?)") \
        X(CHALLENGE_GET, "SELECT bytes FROM live.challenges WHERE host_id = ?") \
        X(CHALLENGE_DROP, "DELETE FROM live.challenges WHERE host_id = ?") \
        X(HEALTH_PUT, "INSERT INTO live.health VALUES (?1, ?2, ?2, ?3, ?4) ON CONFLICT (host_id) DO UPDATE SET" \
                      "  last_seen_at = excluded.last_seen_at, received_at = excluded.received_at, state_hash = excluded.state_hash," \
                      "  full_json = excluded.full_json") \
        X(HEALTH_CONFIRM, "UPDATE live.health SET received_at = ?2 WHERE host_id = ?1") \
        X(HEALTH_GET, "SELECT state_hash, received_at, full_json FROM live.health WHERE host_id = ?") \
        /* workspaces */ \
        X(WORKSPACE_GET, "SELECT workspace_id, org_id, host_id, state, instance_id, private_ip, url," \
                         "  CAST(generation AS TEXT) AS generation FROM workspaces WHERE workspace_id = ?") \
        X(WORKSPACES_OF_ORG, "SELECT workspace_id, host_id, state, instance_id, private_ip, url, CAST(generation AS TEXT) AS generation" \
                             "  FROM workspaces WHERE org_id = ? ORDER BY workspace_id") \
        X(WORKSPACE_ADD, "INSERT OR IGNORE INTO workspaces (workspace_id, org_id, host_id, state) VALUES (?, ?, ?, ?)") \
        X(WORKSPACE_PLACE, "UPDATE workspaces SET host_id = coalesce(host_id, ?2), state = iif(state = 'running', state, 'provisioning')" \
                           "  WHERE workspace_id = ?1") \
        X(WORKSPACE_NEXT, "UPDATE workspaces SET generation = generation + 1 WHERE workspace_id = ? RETURNING generation") \
        X(WORKSPACE_RAISE, "UPDATE workspaces SET generation = max(generation, ?2) WHERE workspace_id = ?1 AND org_id = ?3") \
        /* A late word about an older generation changes nothing. */ \
        X(WORKSPACE_RUNS, "UPDATE workspaces SET state = 'running', host_id = ?2, instance_id = ?4, private_ip = ?5, url = ?6" \
                          "  WHERE workspace_id = ?1 AND " NOTHING_NEWER) \
        X(WORKSPACE_FAILED, "UPDATE workspaces SET state = 'failed' WHERE workspace_id = ? AND state = 'provisioning'") \
        X(WORKSPACE_GONE, "UPDATE workspaces SET state = 'terminated', host_id = NULL WHERE workspace_id = ?1 AND host_id = ?2" \
                          "  AND " NOTHING_NEWER) \
        X(WORKSPACES_GONE, "UPDATE workspaces SET state = 'terminated', host_id = NULL WHERE host_id = ?") \
        /* What each workspace placed on this host should be: its newest provision that has not come to nothing, unless a deprovision is
         * newer, also one whose end is still on its way. */ \
        X(WANTED, "SELECT j.job_id, j.workspace_id, CAST(j.generation AS TEXT) AS generation, j.final," \
                  "  EXISTS (SELECT 1 FROM sealed s WHERE s.job_id = j.job_id) AS sealed FROM workspaces w JOIN jobs j" \
                  "  ON j.job_id = (SELECT n.job_id FROM jobs n WHERE n.workspace_id = w.workspace_id AND" \
                  "    (n.type = 'workspace.deprovision' OR n.type = 'workspace.provision') AND" \
                  "    (n.final = 'succeeded' OR n.final IS NULL) ORDER BY n.generation DESC, n.seq DESC LIMIT 1)" \
                  "  WHERE w.host_id = ? AND j.type = 'workspace.provision'") \
        /* The same for one workspace, wherever it is. */ \
        X(WANTED_OF, "SELECT job_id, type FROM jobs WHERE workspace_id = ? AND type IN ('workspace.deprovision', 'workspace.provision')" \
                     "  AND (final = 'succeeded' OR (final IS NULL AND raw = 0)) ORDER BY generation DESC, seq DESC LIMIT 1") \
        /* jobs */ \
        X(JOB_ADD, "INSERT INTO jobs (job_id, host_id, org_id, type, workspace_id, generation, raw, payload, payload_hash," \
                   "  created_at, due_at) VALUES (?, ?, ?, ?, ?, nullif(?, 0), ?, ?, ?, ?, '')") \
        X(JOB_GET, "SELECT " JOB_COLUMNS "FROM jobs WHERE job_id = ?") \
        X(JOB_PAYLOAD, "SELECT payload, (SELECT how FROM signatures g WHERE g.job_id = jobs.job_id) AS signature" \
                       "  FROM jobs WHERE job_id = ?") \
        X(JOB_LIST, "SELECT " JOB_COLUMNS "FROM jobs WHERE ?1 IS NULL OR host_id = ?1 ORDER BY seq") \
        X(JOBS_DUE, "SELECT job_id, length(payload) AS size FROM jobs WHERE host_id = ?1 AND due_at <= ?2" \
                    "  AND NOT " HELD_BACK " ORDER BY seq LIMIT ?3") \
        X(JOBS_NEXT_DUE, "SELECT due_at FROM jobs WHERE host_id = ? AND due_at IS NOT NULL AND NOT " HELD_BACK \
                         "  ORDER BY due_at LIMIT 1") \
        X(JOB_HANDED, "UPDATE jobs SET due_at = ?2 WHERE job_id = ?1") \
        X(JOB_RECEIVED, "UPDATE jobs SET due_at = NULL WHERE job_id = ? AND host_id = ?") \
        X(JOBS_DUE_AGAIN, "UPDATE jobs SET due_at = '' WHERE host_id = ? AND final IS NULL") \
        X(JOB_STATE, "UPDATE jobs SET due_at = NULL, state = ?2 WHERE job_id = ?1") \
        X(JOB_FINAL, "UPDATE jobs SET due_at = NULL, state = ?2, final = ?2, final_report_id = ?3 WHERE job_id = ?1") \
        /* Ended by us and not by a report: it is never of use. */ \
        X(JOB_WITHDRAW, "UPDATE jobs SET due_at = NULL, state = 'superseded', final = 'superseded' WHERE job_id = ? AND final IS NULL") \
        X(JOB_NEXT, "SELECT job_id, type, final FROM jobs WHERE workspace_id = ?1 AND generation > ?2 AND" \
                    "  type IN ('workspace.provision', 'workspace.deprovision') ORDER BY generation LIMIT 1") \
        /* Whose outcome counts for a job that was superseded: the next one of its line that was not itself passed over. A restart
         * is of the line too: what it brings up is the wanted state. */ \
        X(JOB_SUCCESSOR, "SELECT job_id, type, final FROM jobs WHERE workspace_id = ?1 AND generation > ?2 AND" \
                         "  type IN ('workspace.provision', 'workspace.deprovision', 'workspace.restart') AND" \
                         "  (final IS NULL OR final NOT IN ('superseded', 'refused', 'conflict', 'expired'))" \
                         "  ORDER BY generation LIMIT 1") \
        X(JOB_NEWEST, "SELECT job_id, host_id, type, final FROM jobs WHERE workspace_id = ? AND raw = 0 AND" \
                      "  type IN ('workspace.provision', 'workspace.deprovision') ORDER BY generation DESC, seq DESC LIMIT 1") \
        X(TEARDOWN_OF, "SELECT " JOB_COLUMNS "FROM jobs WHERE host_id = ? AND type = 'host.teardown' ORDER BY seq DESC LIMIT 1") \
        X(PROVISION_NEWEST, "SELECT " JOB_COLUMNS "FROM jobs WHERE org_id = ? AND type = 'workspace.provision' ORDER BY seq DESC LIMIT 1") \
        /* what jobs carry besides their payload */ \
        X(SEALED_ADD, "INSERT INTO sealed VALUES (?, ?, ?)") \
        X(SEALED_USELESS, "SELECT j.job_id, j.state FROM sealed s JOIN jobs j USING (job_id) JOIN sealing_keys k USING (host_id)" \
                          "  WHERE j.host_id = ? AND j.final IS NULL AND (s.key_id <> k.key_id OR s.public_key <> k.public_key)" \
                          "  ORDER BY j.seq") \
        X(SECRET_ADD, "INSERT INTO secrets VALUES (?, ?, ?)") \
        X(SECRET_LIST, "SELECT name, value FROM secrets WHERE job_id = ? ORDER BY rowid") \
        X(SIGNATURE_ADD, "INSERT INTO signatures VALUES (?, ?)") \
        X(DELIVERY_ADD, "INSERT INTO deliveries VALUES (?, ?, ?)") \
        X(DELIVERY_GET, "SELECT j.job_id FROM deliveries d JOIN jobs j USING (job_id) WHERE d.delivery_id = ? AND j.host_id = ?") \
        X(DELIVERY_LIST, "SELECT delivery_id, handed_at FROM deliveries WHERE job_id = ? ORDER BY rowid") \
        X(REPORT_ADD, "INSERT OR IGNORE INTO reports (report_id, host_id, job_id, body_json, received_at) VALUES (?, ?, ?, ?, ?)" \
                      "  RETURNING seq") \
        X(REPORT_GET, "SELECT body_json FROM reports WHERE report_id = ?") \
        X(REPORT_LAST, "SELECT body_json FROM reports WHERE job_id = ? ORDER BY seq DESC LIMIT 1") \
        X(REPORT_LIST, "SELECT received_at, body_json FROM reports WHERE job_id = ? ORDER BY seq") \
        /* pins */ \
        X(PIN_PUT, "INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)") \
        X(PIN_GET, "SELECT * FROM pins WHERE template_name = ? AND region = ?") \
        X(PIN_FOR, "SELECT image_ref FROM pins WHERE template_name = ?1 AND region IN ('global', ?2) LIMIT 1") \
        X(PIN_LIST, "SELECT * FROM pins ORDER BY template_name, region") \
        X(AMI_PUT, "INSERT OR REPLACE INTO thin_amis VALUES (?, ?, ?, ?, ?)") \
        X(AMI_GET, "SELECT * FROM thin_amis WHERE region = ?") \
        X(AMI_LIST, "SELECT * FROM thin_amis ORDER BY region") \
        X(AMI_TABLE, "SELECT region, ami_id FROM thin_amis ORDER BY region") \
        /* tenants that went */ \
        X(PURGE_ADD, "INSERT INTO purges (id, slug, org_id, last_step) VALUES (?, ?, ?, 'teardown')") \
        X(PURGE_OPEN, "SELECT id, org_id FROM purges WHERE slug = ? AND completed_at IS NULL") \
        X(PURGE_DONE, "UPDATE purges SET last_step = 'completed', completed_at = ?2 WHERE id = ?1") \
        X(PURGE_OF, "SELECT id, org_id FROM purges WHERE slug = ? AND completed_at IS NOT NULL ORDER BY seq DESC LIMIT 1") \
        X(PURGE_LIST, "SELECT id, slug, org_id, last_step, completed_at FROM purges ORDER BY seq DESC LIMIT ?") \
        X(SECRETS_SCRUB, "DELETE FROM secrets WHERE job_id IN (SELECT job_id FROM jobs WHERE org_id = ?)") \
        /* rolls */ \
        X(ROLL_PUT, "INSERT INTO rolls (roll_id, roll_json, open) VALUES (?1, ?2, ?3) ON CONFLICT (roll_id) DO UPDATE SET" \
                    "  roll_json = excluded.roll_json, open = excluded.open") \
        X(ROLL_GET, "SELECT roll_json FROM rolls WHERE roll_id = ?") \
        X(ROLL_OPEN, "SELECT roll_json FROM rolls WHERE open = 1 ORDER BY seq LIMIT 1") \
        /* the platform's retries */ \
        X(KEY_GET, "SELECT body_hash, job_id FROM idempotency WHERE org_id = ? AND idempotency_key = ?") \
        X(KEY_ADD, "INSERT INTO idempotency VALUES (?, ?, ?, ?)")
