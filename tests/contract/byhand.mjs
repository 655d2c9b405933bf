// SPDX-License-Identifier: Apache-2.0
// A host made by hand goes the whole way through prism and the reference control plane: every operation, also in the ways an agent rarely
// meets. What differs from the agent's run is the fault of one of them.

import { randomBytes } from 'node:crypto';

import { ok, startPrism, stop, until } from './lib.mjs';
import { open, payloadChecker, signerOf, verifies } from './payload.mjs';
import { startPlane } from './plane.mjs';
import { newHost, newKey, report, request, send, unchanged } from './requests.mjs';

const digest = (letter) => `sha256:${letter.repeat(64)}`;

export async function byHand(dir, document, agentDocument, devcp) {
    const seed = randomBytes(32);
    const signer = signerOf(seed);
    const plane = await startPlane('devcp-byhand', dir, devcp, seed);
    const prism = await startPrism('prism-byhand', dir, document, plane.port);
    const check = payloadChecker(agentDocument);
    const host = newHost(plane.org);

    // Sends and judges: the status that must come, and nothing outside the contract.
    async function call(id, status, change = () => {}, name = id) {
        const q = request(id, host);
        change(q);
        const a = await send(prism.port, '/api/v1', q);
        ok(a.status === status && !a.violations, `by hand: ${name} answers ${status}, inside the contract`, `status ${a.status}`,
            a.violations ?? a.text);
        return a;
    }

    await call('probeProvisionFamily', 401);
    await call('listJobs', 404, undefined, 'listJobs of an unknown host');
    await call('registerHost', 401, (q) => { q.headers.Authorization = 'Bearer stale'; }, 'registerHost with a stale secret');
    const config = await call('getTenantConfig', 200);
    ok(config.json?.MOLECULE_CP_SHARED_SECRET === plane.secret, 'by hand: the tenant config has the present secret');
    await call('getTenantConfig', 401, (q) => { q.headers.Authorization = 'Bearer wrong'; }, 'getTenantConfig with a wrong token');
    await call('registerHost', 200);

    await plane.promote(digest('a'));
    const pins = await call('getPins', 200);
    ok(verifies(pins.json, signer), 'by hand: the pin table is signed', pins.json);
    const etag = pins.headers.get('etag');
    await call('getPins', 304, (q) => { q.headers['If-None-Match'] = etag; }, 'getPins with its ETag');
    ok((await call('listJobs', 200)).json?.pins_etag === etag, 'by hand: the job list and the pin table agree on the ETag');

    // Four jobs: as the operator orders them, one against the contract, and one through the platform's own door.
    const order = (body) => plane.must('POST', `/admin/hosts/${host.host_id}/jobs`, body);
    const plain = { runtime: 'claude-code', platform_url: 'https://platform.example.com', env: { MODEL: 'small' } };
    const spec = { ...plain, probe: { path: '/ready' } };
    await order({ type: 'workspace.provision', workspace_id: crypto.randomUUID(), spec });
    await order({ type: 'workspace.deprovision', workspace_id: crypto.randomUUID(), spec: { prune: true } });
    await order({ type: 'workspace.provision', workspace_id: crypto.randomUUID(), spec: { ...spec, colour: 'blue' } });
    const platform = plane.call('POST', '/workspaces/provision', {
        ...plain, org_id: host.org_id, workspace_id: crypto.randomUUID(), tier: 2, config_files: { 'config.yaml': btoa('name: by hand\n') },
        env: { ...plain.env, API_TOKEN: 'x'.repeat(65536) },
    }, plane.tenant);
    const deliveries = [];
    await until(20, 'four jobs', async () => {
        deliveries.push(...(await call('listJobs', 200, (q) => { q.path = q.path.replace('wait=0', 'wait=2'); })).json.jobs);
        return deliveries.length >= 4;
    });
    const jobs = deliveries.map((delivery) => ({ delivery, payload: open(delivery), faults: check(open(delivery)) }));
    for (const { payload, faults } of jobs)
        if (payload.spec.colour) ok(faults.length > 0, 'by hand: JobPayload refuses an unknown field', payload);
        else ok(faults.length === 0, `by hand: JobPayload takes the ${payload.type}`, faults, payload);
    ok(jobs.every(({ delivery }) => verifies(delivery.envelope, signer)), 'by hand: jobs are signed');
    const sealed = jobs[3].payload.spec;
    ok(sealed.sealed_to === host.sealing_key.key_id && sealed.secrets.API_TOKEN && !sealed.env.API_TOKEN, 'by hand: the token is sealed');
    const tooLong = structuredClone(jobs[3].payload);
    tooLong.spec.secrets.API_TOKEN += 'A'.repeat(65536);
    ok(check(tooLong).length > 0, 'by hand: JobPayload refuses a box of twice that size');

    // The last one is the platform's, which waits for it.
    const about = ({ delivery, payload }, more) => report({
        delivery_id: delivery.delivery_id, job_id: payload.job_id, type: payload.type, workspace_id: payload.workspace_id,
        generation: payload.generation, at: new Date().toISOString(), ...more,
    });
    const refused = { code: 'unsupported_field', message: 'spec: colour', retryable: false };
    const finals = jobs.map((job, i) => (i < 3 ? about(job, { state: 'refused', message: refused.message, error: refused }) : about(job, {
        state: 'succeeded', stage: 'ready', message: 'Ready.',
        result: { instance_id: `ws-${job.payload.workspace_id}`, state: 'running', private_ip: '172.18.0.2', runtime: 'claude-code',
            url: 'http://127.0.0.1:20000', image_ref: `registry.example.com/claude-code@${digest('a')}`, running_image: digest('a'),
            verified_on_target: true, env_keys: ['API_TOKEN', 'MODEL'], container_restarted: true },
    })));
    const acked = await call('postReports', 200, (q) => {
        const running = about(jobs[3], { state: 'running', stage: 'installing', progress: 40, message: 'Pulling.' });
        q.body.reports = [...jobs.map((job) => about(job, {})), running, ...finals];
    });
    ok(finals.every((f) => acked.json?.acked.includes(f.report_id)), 'by hand: finals are acked');
    ok((await platform).status === 201, 'by hand: the platform has its answer', await platform);
    await call('postReports', 200, (q) => { q.body.reports = finals; }, 'postReports again');

    const health = async (what, change) => (await call('postHealth', 200, change, `postHealth, ${what}`)).json?.need_full === true;
    ok(!await health('full'), 'by hand: a full one is enough');
    ok(!await health('unchanged', (q) => { q.body = unchanged; }), 'by hand: the hash is known');
    const other = { ...unchanged, state_hash: 'cd'.repeat(32) };
    ok(await health('unknown hash', (q) => { q.body = other; }), 'by hand: another hash asks for a full one');

    const old = { ...host };
    host.boot_id = crypto.randomUUID();
    await call('registerHost', 200, undefined, 'registerHost in another boot');
    const { boot_id } = host;
    Object.assign(host, { boot_id: old.boot_id });
    await call('listJobs', 409, undefined, 'listJobs of the boot before');

    Object.assign(host, { boot_id, sealing_key: newKey(2) });
    const dispute = await call('registerHost', 409, undefined, 'registerHost with another key');
    ok(dispute.json?.error === 'sealing_key_conflict' && dispute.json.challenge, 'by hand: it is a conflict', dispute.text);
    await call('registerHost', 409, (q) => { q.body.previous_key_proof = randomBytes(32).toString('base64'); },
        'registerHost with a wrong proof');
    await call('listJobs', 200, undefined, 'listJobs in a conflict');
    await plane.must('POST', `/admin/hosts/${host.host_id}/sealing-key`, { key_id: host.sealing_key.key_id });
    await call('registerHost', 200, undefined, 'registerHost with the key that an operator settled');

    await stop(prism.child);
    await stop(plane.child);
}
