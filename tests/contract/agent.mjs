// SPDX-License-Identifier: Apache-2.0
// The agent itself, with a recorder and prism between it and the reference control plane. It begins with a secret that is no longer
// good, and without an engine; one that has nothing on it comes later.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { startEngine } from './engine.mjs';
import { ok, sleep, start, startPrism, startRecorder, stop, until } from './lib.mjs';
import { open, payloadChecker } from './payload.mjs';
import { startPlane } from './plane.mjs';
import { idOf } from './requests.mjs';

function startAgent(dir, program, plane, port) {
    const at = (name) => path.join(dir, 'agent', name);
    for (const name of ['state', 'run', 'credentials']) mkdirSync(at(name), { recursive: true, mode: name === 'run' ? 0o755 : 0o700 });
    writeFileSync(at('credentials/provision-secret'), 'a-secret-of-yesterday\n', { mode: 0o400 });
    writeFileSync(at('credentials/admin-token'), plane.org.token, { mode: 0o400 });
    writeFileSync(at('agent.conf'), `[agent]
cp_url = http://127.0.0.1:${port}
org_id = ${plane.org.id}
org_slug = ${plane.org.slug}
allow_insecure_loopback = yes
engine_socket = ${at('engine.sock')}
log_level = debug
`);
    return start('agent', dir, program, ['--config', at('agent.conf')],
        { STATE_DIRECTORY: at('state'), RUNTIME_DIRECTORY: at('run'), CREDENTIALS_DIRECTORY: at('credentials') });
}

// One job that is refused without an engine, one that succeeds on a host that has never seen its workspace.
async function orderJobs(plane, hostId) {
    const order = (body) => plane.must('POST', `/admin/hosts/${hostId}/jobs`, body);
    const spec = { runtime: 'claude-code', platform_url: 'https://platform.example.com', env: {}, colour: 'blue' };
    return {
        refused: await order({ type: 'workspace.provision', workspace_id: crypto.randomUUID(), spec }),
        succeeded: await order({ type: 'workspace.deprovision', workspace_id: crypto.randomUUID(), spec: { prune: false } }),
    };
}

function judge(exchanges, check) {
    const seen = {};
    for (const x of exchanges) {
        const id = idOf(x.method, x.url) ?? 'unknown';
        const kind = id === 'postHealth' ? `${id} ${JSON.parse(x.body).unchanged ? 'unchanged' : 'full'}` : id;
        seen[kind] ??= { calls: 0, good: 0, statuses: new Set(), faults: [] };
        seen[kind].calls++;
        seen[kind].statuses.add(x.status);
        if (x.status < 400) seen[kind].good++;
        seen[kind].faults.push(...x.violations);
        if (id === 'unknown') seen[kind].faults.push(`${x.method} ${x.url}`);
        if (kind === 'postHealth unchanged' && x.body.length > 512) seen[kind].faults.push(`${x.body.length} bytes, more than 512`);
        if (id === 'listJobs' && x.status === 200)
            for (const delivery of JSON.parse(x.reply).jobs) {
                const payload = open(delivery);
                if (!payload.spec.colour) seen[kind].faults.push(...check(payload));
            }
    }
    return seen;
}

export async function agent(dir, document, agentDocument, devcp, program) {
    const plane = await startPlane('devcp-agent', dir, devcp);
    const prism = await startPrism('prism-agent', dir, document, plane.port);
    const recorder = await startRecorder(prism.port);
    const digest = `sha256:${'a'.repeat(64)}`;
    await plane.promote(digest);

    const child = startAgent(dir, program, plane, recorder.port);
    const alive = () => {
        if (child.exitCode !== null || child.signalCode) throw new Error(`the agent ended: ${child.text.slice(-2000)}`);
        return true;
    };
    const host = await until(60, 'the agent registers', async () => alive() && (await plane.must('GET', '/admin/hosts')).hosts[0]);
    const jobs = await orderJobs(plane, host.host_id);
    let engine;
    for (const [word, job] of Object.entries(jobs)) {
        const done = await until(60, `the job to be ${word} ends`, async () => {
            const now = await plane.must('GET', `/admin/jobs/${job.job_id}`);
            return alive() && now.final && now;
        });
        ok(done.final === word, `agent: the ${job.type} ends ${word}`, done.final, done.reports);
        engine ??= await startEngine(path.join(dir, 'agent/engine.sock'));
    }
    await plane.promote(`sha256:${'b'.repeat(64)}`);
    const enough = () => {
        const seen = judge(recorder.exchanges, () => []);
        return alive() && seen['postHealth unchanged']?.good && seen.getPins?.good > 1 && seen.getTenantConfig?.good;
    };
    await until(60, 'every operation', enough).catch(() => {});
    await sleep(1);
    const code = await stop(child);
    ok(code === 0, 'agent: SIGTERM ends it with 0', code);

    const seen = judge(recorder.exchanges, payloadChecker(agentDocument));
    const needed = ['registerHost', 'listJobs', 'postReports', 'postHealth full', 'postHealth unchanged', 'getPins', 'getTenantConfig'];
    for (const kind of needed) {
        const s = seen[kind] ?? { calls: 0, good: 0, statuses: new Set(), faults: [] };
        ok(s.good > 0, `agent: ${kind} was exercised (${s.calls} calls, status ${[...s.statuses].join(' ')})`);
    }
    for (const [kind, s] of Object.entries(seen))
        ok(s.faults.length === 0, `agent: ${kind} kept to the contract`, [...new Set(s.faults)].slice(0, 20));
    for (const server of [engine, recorder.server]) {
        server.close();
        server.closeAllConnections();
    }
    await stop(prism.child);
    await stop(plane.child);
}
