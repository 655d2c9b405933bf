// SPDX-License-Identifier: Apache-2.0
// The reference control plane, over plain http on loopback, and an operator's calls to it.

import { writeFileSync } from 'node:fs';
import path from 'node:path';

import { freePort, listens, start, until } from './lib.mjs';

// seed: 32 bytes that jobs and pins are signed with.
export async function startPlane(name, dir, program, seed) {
    const port = await freePort();
    const plane = { port, secret: crypto.randomUUID(), bearer: crypto.randomUUID() };
    const file = (what, text) => { const at = path.join(dir, `${name}-${what}`); writeFileSync(at, text, { mode: 0o600 }); return at; };
    plane.child = start(name, dir, program, ['--listen', `127.0.0.1:${port}`, '--database', path.join(dir, `${name}.db`),
        '--provision-secret-file', file('secret', plane.secret), '--admin-bearer-file', file('bearer', plane.bearer),
        '--heartbeat-seconds', '2', '--wait-seconds', '5', ...(seed ? ['--signing-key-file', file('seed', seed.toString('base64'))] : [])]);
    await until(10, `${name} listens`, () => {
        if (plane.child.exitCode !== null) throw new Error(`${name} ended: ${plane.child.text}`);
        return listens(port);
    });

    plane.call = async (method, where, body, headers = { Authorization: `Bearer ${plane.bearer}` }) => {
        const answer = await fetch(`http://127.0.0.1:${port}/api/v1${where}`, {
            method, headers: { ...headers, ...(body ? { 'Content-Type': 'application/json' } : {}) }, body: body && JSON.stringify(body),
        });
        return { status: answer.status, json: await answer.json().catch(() => undefined) };
    };
    plane.must = async (...words) => {
        const answer = await plane.call(...words);
        if (answer.status > 299) throw new Error(`${words[0]} ${words[1]}: ${answer.status} ${JSON.stringify(answer.json)}`);
        return answer.json;
    };

    const slug = `org-${crypto.randomUUID().slice(0, 8)}`;
    await plane.must('POST', '/admin/orgs', { slug, name: 'Contract', owner_user_id: 'contract' });
    plane.org = { id: (await plane.must('GET', `/orgs/${slug}/instance`)).org_id, slug, secret: plane.secret };
    plane.org.token = (await plane.must('GET', `/admin/orgs/${slug}/admin-token`)).admin_token;
    plane.tenant = { Authorization: `Bearer ${plane.secret}`, 'X-Molecule-Admin-Token': plane.org.token };

    plane.promote = (digest) => plane.must('POST', '/admin/runtime-image/promote', {
        template_name: 'claude-code', image_digest: digest, image_ref: `registry.example.com/claude-code@${digest}`,
        git_sha: '0'.repeat(40), notes: 'contract',
    });
    return plane;
}
