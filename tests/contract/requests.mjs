// SPDX-License-Identifier: Apache-2.0
// One request inside the contract for each operation, and ways out of it: what a hand-made host says, and what must be noticed.

import { generateKeyPairSync } from 'node:crypto';

const zero = '00000000-0000-0000-0000-000000000000';
const hash = 'ab'.repeat(32);
const time = '2026-01-02T03:04:05Z';

export const newHost = (org) => ({
    org_id: org.id, secret: org.secret, token: org.token,
    host_id: crypto.randomUUID(), boot_id: crypto.randomUUID(), sealing_key: newKey(1),
});

export const newKey = (number) => ({
    key_id: `h${number}-0123456789abcdef`, algorithm: 'x25519-sealedbox',
    public_key: generateKeyPairSync('x25519').publicKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('base64'),
});

const headers = (host) => ({
    'User-Agent': 'molecule-agent/0.1.0',
    'X-Molecule-Host-Id': host.host_id,
    'X-Molecule-Org-Id': host.org_id,
    'X-Molecule-Agent-Protocol': '1',
});
const hostHeaders = (host) => ({
    ...headers(host),
    Authorization: `Bearer ${host.secret}`,
    'X-Molecule-Admin-Token': host.token,
    'X-Molecule-Boot-Id': host.boot_id,
});

const register = (host) => ({
    protocol: 1, org_id: host.org_id, host_id: host.host_id, boot_id: host.boot_id, boot_epoch: '1',
    host: { hostname: 'by-hand', machine_id: '0123456789abcdef0123456789abcdef', arch: 'x86_64', os: 'Debian GNU/Linux 12', kernel: '6.1.0',
        cpus: 2, memory_bytes: '8589934592' },
    agent: { version: '0.1.0', git_sha: 'unknown' },
    engine: { name: 'docker', version: '20.10.24', api_version: '1.41', driver: 'overlay2', root_dir: '/var/lib/docker' },
    sealing_key: { ...host.sealing_key },
    features: ['workspace.provision', 'workspace.deprovision'], max_tier: 2, holding: [], open_jobs: [], host_generation: '0',
});

export const report = (more) => ({
    report_id: crypto.randomUUID(), source: 'job', state: 'accepted', message: 'Accepted.', at: time, ...more,
});

export const unchanged = { unchanged: true, state_hash: hash };
const full = {
    state_hash: hash,
    host: { disk: { total: '1000', free: '500' }, memory: { total: '1000', free: '500' }, load: 0.5, uptime_seconds: 60,
        clock_skew_seconds: null },
    agent: { version: '0.1.0', started_at: time, memory_bytes: '1', loops: { poll: { last_tick_at: time, seconds_ago: 1 } },
        outbox_depth: 0, jobs_running: 0, draining: false, held: false, degraded: ['engine_unreachable'], reports_refused: 0,
        last_error: null },
    engine: { state: 'down', last_error: { code: 'engine_unreachable', message: 'No socket.' } },
    pins: { etag: null, age_seconds: null }, foreign: [],
    workspaces: [{ workspace_id: zero, generation: '1', runtime: 'claude-code', status: 'online', running_image: `sha256:${hash}`,
        healthz_ok: true, last_error: null }],
};

// Each: the request; `out`, how to leave the contract with it; an answer inside and one outside of it.
export const operations = {
    registerHost: {
        method: 'POST', path: () => '/hosts', headers: hostHeaders, body: register,
        out: { 'a number for a decimal string': (q) => { q.body.boot_epoch = 1; },
            'an unknown field': (q) => { q.body.host.colour = 'blue'; },
            'a key for other boxes': (q) => { q.body.sealing_key.algorithm = 'rsa'; },
            'a proof that is too short': (q) => { q.body.previous_key_proof = 'AAAA'; },
            'no admin token': (q) => { delete q.headers['X-Molecule-Admin-Token']; } },
        good: { host_id: zero, org_slug: 'acme', heartbeat_seconds: 30, wait_seconds: 50, max_jobs: 4, server_time: time, colour: 'blue' },
        bad: { host_id: 'here' },
    },
    listJobs: {
        method: 'GET', path: (host) => `/hosts/${host.host_id}/jobs?wait=0&max=4`, headers: hostHeaders,
        out: { 'a word for a number': (q) => { q.path = q.path.replace('wait=0', 'wait=soon'); },
            'no boot id': (q) => { delete q.headers['X-Molecule-Boot-Id']; } },
        good: { pins_etag: '"1"', jobs: [{ delivery_id: zero,
            envelope: { payloadType: 'application/vnd.molecule.job.v1+json', payload: 'e30=', signatures: [] } }] },
        bad: { pins_etag: '', jobs: [{ delivery_id: zero, envelope: { payloadType: 'text/plain', payload: 'e30=', signatures: [] } }] },
    },
    postReports: {
        method: 'POST', path: (host) => `/hosts/${host.host_id}/reports`, headers: hostHeaders,
        body: () => ({ boot_epoch: '1',
            reports: [report({ job_id: zero, type: 'workspace.deprovision', workspace_id: zero, generation: '1', state: 'succeeded',
                result: { destroyed: { key: true, files: true, tmpfs: true, volumes: false } } })] }),
        out: { 'a state of another world': (q) => { q.body.reports[0].state = 'done'; },
            'refused without an error': (q) => { q.body.reports[0].state = 'refused'; },
            'a provision whose result names no image': (q) => {
                Object.assign(q.body.reports[0], { state: 'succeeded', type: 'workspace.provision', result: { state: 'running' } });
            },
            'a deprovision that leaves the keys out': (q) => { delete q.body.reports[0].result.destroyed.key; },
            'a report about nothing': (q) => { delete q.body.reports[0].job_id; delete q.body.reports[0].workspace_id; },
            'an unknown error code': (q) => { q.body.reports[0].error = { code: 'oops', message: 'Oops.' }; } },
        good: { acked: [zero] },
        bad: { acked: 'all' },
    },
    postHealth: {
        method: 'POST', path: (host) => `/hosts/${host.host_id}/health`, headers: hostHeaders, body: () => structuredClone(full),
        out: { 'a status of another world': (q) => { q.body.workspaces[0].status = 'fine'; },
            'unchanged and full at once': (q) => { q.body.unchanged = true; } },
        good: { need_full: false, server_time: time },
        bad: { need_full: true },
    },
    getPins: {
        method: 'GET', path: (host) => `/hosts/${host.host_id}/pins`, headers: hostHeaders,
        out: { 'no provision secret': (q) => { delete q.headers.Authorization; } },
        good: { pins: [{ template_name: 'claude-code', region: 'global', image_digest: `sha256:${hash}`,
            image_ref: `registry.example.com/claude-code@sha256:${hash}`, git_sha: null }], thin_ami: [] },
        bad: { pins: [{ template_name: 'claude-code', region: 'global', image_digest: 'latest',
            image_ref: 'registry.example.com/x:latest' }] },
    },
    getTenantConfig: {
        method: 'GET', path: () => '/tenants/config', headers: (host) => ({ ...headers(host), Authorization: `Bearer ${host.token}` }),
        out: { 'another program': (q) => { q.headers['User-Agent'] = 'curl/8.4.0'; },
            'no bearer': (q) => { delete q.headers.Authorization; } },
        good: { MOLECULE_CP_SHARED_SECRET: 'another', MODEL: '' },
        bad: { MOLECULE_CP_SHARED_SECRET: 7 },
    },
    probeProvisionFamily: {
        method: 'GET', path: () => `/workspaces/${zero}/status`,
        headers: () => ({ 'User-Agent': 'molecule-agent/0.1.0', 'X-Molecule-Agent-Protocol': '1' }),
        out: { 'no protocol number': (q) => { delete q.headers['X-Molecule-Agent-Protocol']; } },
        good: { error: 'unauthorized' }, goodStatus: 401,
        bad: { state: 'running' },
    },
};

// Which operation a call was; undefined for none.
export function idOf(method, url) {
    const path = url.split('?')[0].replace(/^\/api\/v1/, '');
    for (const [id, o] of Object.entries(operations))
        if (o.method === method && o.path({ host_id: path.split('/')[2] }).split('?')[0] === path) return id;
}

export function request(id, host) {
    const o = operations[id];
    return { method: o.method, path: o.path(host), headers: { ...o.headers(host) }, body: o.body?.(host) };
}

export async function send(port, prefix, q) {
    const init = { method: q.method, headers: { ...q.headers } };
    if (q.body !== undefined) {
        init.headers['Content-Type'] = 'application/json';
        init.body = JSON.stringify(q.body);
    }
    const answer = await fetch(`http://127.0.0.1:${port}${prefix}${q.path}`, init);
    const text = await answer.text();
    let json;
    try { json = JSON.parse(text); } catch { json = undefined; }
    return { status: answer.status, headers: answer.headers, text, json, violations: answer.headers.get('sl-violations') };
}
