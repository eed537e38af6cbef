// A certified OpenID provider with short tokens: client credentials only, signed JWT access tokens, everything in memory.
//
// Arguments: one JSON object {clientId, clientSecret, resource, scope, lifetimeSeconds}.
// Standard output: JSON lines. First {"issuer"}, when it listens; then {"issued": {jti, iat, exp}} for every token and
// {"refused": code} for every token request that it turns down. Never a token.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { exportJWK, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

const { clientId, clientSecret, resource, scope, lifetimeSeconds } = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const { privateKey } = await generateKeyPair('RS256', { extractable: true });
const key = { ...(await exportJWK(privateKey)), kid: 'one', use: 'sig', alg: 'RS256' };

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: clientId,
      client_secret: clientSecret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: 'client_secret_basic',
    },
  ],
  jwks: { keys: [key] },
  cookies: { keys: ['unused: nobody logs in here'] },
  ttl: { ClientCredentials: lifetimeSeconds },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, indicator) => {
        if (indicator !== resource) throw new Error('unknown resource');
        return {
          scope,
          audience: resource,
          accessTokenTTL: lifetimeSeconds,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        };
      },
    },
  },
});

provider.on('grant.success', (context) => {
  const [, claims] = context.body.access_token.split('.');
  const { jti, iat, exp } = JSON.parse(Buffer.from(claims, 'base64url'));
  say({ issued: { jti, iat, exp } });
});
provider.on('grant.error', (_context, error) => say({ refused: error.error ?? String(error) }));
provider.on('server_error', (_context, error) => say({ refused: `server_error ${error.message}` }));

server.on('request', provider.callback());
say({ issuer });
process.once('SIGTERM', () => process.exit(0));
