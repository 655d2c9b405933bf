// SPDX-License-Identifier: Apache-2.0
// The least that is an engine: it says who it is, and that there is nothing on it.

import http from 'node:http';

const answers = {
    '/_ping': 'OK',
    '/version': { Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12', Components: [{ Name: 'Engine', Version: '20.10.24' }] },
    '/info': { Name: 'engine', Driver: 'overlay2', DockerRootDir: '/', CgroupDriver: 'systemd', ServerVersion: '20.10.24',
        LiveRestoreEnabled: false },
    '/containers/json': [],
    '/volumes': { Volumes: [], Warnings: null },
};

export function startEngine(socket) {
    const server = http.createServer((q, answer) => {
        const where = q.url.split('?')[0].replace(/^\/v1\.\d+/, '');
        if (where === '/events') return answer.writeHead(200, { 'Content-Type': 'application/json' }).flushHeaders();
        const found = answers[where];
        answer.writeHead(found === undefined ? 404 : 200, { 'Content-Type': 'application/json', 'Api-Version': '1.41' });
        answer.end(typeof found === 'string' ? found : JSON.stringify(found ?? { message: `no such thing: ${where}` }));
    });
    return new Promise((done) => server.listen(socket, () => done(server)));
}
