// A certified OpenID provider with all that it offers: every client authentication, DPoP, authorization code, device
// code, refresh tokens that rotate, resource indicators, revocation. Everything in memory, over TLS.
//
// Argument: a file with one JSON object:
//   certificate, key    files of the server
//   clientAuthority     file of the CA whose client certificates are trusted
//   clients             as oidc-provider wants them (RFC 7591 metadata)
//   resources           scopes by resource indicator, the first is the default
//   lifetimes           seconds of {access} and {refresh} tokens
//   nonceFor            ids of the clients that need a nonce in their DPoP proofs
//
// There are two listeners, since a browser must not be asked for a certificate: the second one asks, and the metadata
// name it in mtls_endpoint_aliases (RFC 8705 section 5).
//
// Standard output: JSON lines between the package's own notices. First {"issuer"}, when both listen; then, never with a
// token in it:
//   {"issued"}         client, grant and claims of every access token
//   {"refused"}        client, error and description of every token request that is turned down
//   {"unauthorized"}   client and error of every consent that was not given
//   {"rotated"}        the client of a refresh token that was used
//   {"revoked"}        the client whose whole grant has ended
//   {"broken"}         what went wrong here

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { exportJWK, generateKeyPair } from 'jose';
import { Provider, errors } from 'oidc-provider';

const options = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function listen(more) {
  const server = createServer({ cert: readFileSync(options.certificate), key: readFileSync(options.key), ...more });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

const plain = await listen({});
// Certificates signed by nobody are taken, too: a client may register its own (RFC 8705 section 2.2).
const mutual = await listen({ requestCert: true, rejectUnauthorized: false, ca: readFileSync(options.clientAuthority) });
const issuer = `https://localhost:${plain.address().port}`;
const alias = `https://localhost:${mutual.address().port}`;

const { privateKey } = await generateKeyPair('ES256', { extractable: true });
const key = { ...(await exportJWK(privateKey)), kid: 'one', use: 'sig', alg: 'ES256' };
const [defaultResource] = Object.keys(options.resources);

const provider = new Provider(issuer, {
  clients: options.clients,
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  clientAuthMethods: [
    'client_secret_basic',
    'client_secret_post',
    'client_secret_jwt',
    'private_key_jwt',
    'tls_client_auth',
    'self_signed_tls_client_auth',
    'none',
  ],
  // What FAPI 2.0 and RFC 7523bis ask for: of all audiences only the issuer.
  assertJwtClientAuthClaimsAndHeader: (_context, claims) => {
    if (claims.aud !== issuer) throw new errors.InvalidClientAuth('the audience is not the issuer');
  },
  jwks: { keys: [key] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: (_context, client) => client.grantTypeAllowed('refresh_token'),
  expiresWithSession: () => false,
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: {
    AccessToken: options.lifetimes.access,
    ClientCredentials: options.lifetimes.access,
    RefreshToken: options.lifetimes.refresh,
  },
  discovery: {
    mtls_endpoint_aliases: {
      token_endpoint: `${alias}/token`,
      revocation_endpoint: `${alias}/token/revocation`,
      device_authorization_endpoint: `${alias}/device/auth`,
    },
  },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    dPoP: {
      enabled: true,
      nonceSecret: randomBytes(32),
      requireNonce: (context) => options.nonceFor.includes(context.oidc.client?.clientId),
    },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
      getCertificate: (context) => context.socket.getPeerX509Certificate(),
      certificateAuthorized: (context) => context.socket.authorized,
      certificateSubjectMatches: (context, _property, expected) =>
        context.socket.getPeerX509Certificate().subjectAltName === `DNS:${expected}`,
    },
    resourceIndicators: {
      enabled: true,
      // One token is for one resource: of several the first (RFC 8707 section 2.2).
      defaultResource: (_context, _client, several) => (several ? several[0] : defaultResource),
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, indicator) => {
        if (!(indicator in options.resources)) throw new errors.InvalidTarget();
        return {
          scope: options.resources[indicator],
          audience: indicator,
          accessTokenTTL: options.lifetimes.access,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        };
      },
    },
  },
});

function claimsOf(token) {
  const { jti, iat, exp, aud, scope, cnf } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
  return { jti, iat, exp, aud, scope: scope ?? null, boundBy: Object.keys(cnf ?? {}) };
}

provider.on('grant.success', (context) => {
  const { params, client } = context.oidc;
  say({ issued: { client: client.clientId, grant: params.grant_type, ...claimsOf(context.body.access_token) } });
});
provider.on('grant.error', (context, error) => {
  const { error: code, error_detail: detail, error_description: description } = error;
  say({ refused: { client: context.oidc.client?.clientId ?? null, error: code, description: detail ?? description } });
});
provider.on('authorization.error', (context, error) => {
  say({ unauthorized: { client: context.oidc.client?.clientId ?? null, error: error.error } });
});
provider.on('refresh_token.consumed', (token) => say({ rotated: token.clientId }));
provider.on('grant.revoked', (context) => say({ revoked: context.oidc.client.clientId }));
provider.on('server_error', (_context, error) => say({ broken: error.stack }));

// Nobody here waits for the five seconds that a device waits between two polls without this (RFC 8628 section 3.2).
provider.use(async (context, next) => {
  await next();
  if (context.oidc?.route === 'device_authorization' && context.status === 200) context.body.interval = 1;
});

plain.on('request', provider.callback());
mutual.on('request', provider.callback());
say({ issuer });
process.once('SIGTERM', () => process.exit(0));
