/** Serves the client on samples in memory, under the content security policy of the server. */
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const me = { address: "alice@initech.lab", domains: ["initech.lab"], registration: "open" };

const sessions = [
  { id: 1, label: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", created: Date.now() - 3 * 86_400_000, lastSeen: Date.now() - 60_000, current: true },
  { id: 2, label: "billow 0.1", created: Date.now() - 9 * 86_400_000, lastSeen: Date.now() - 7_200_000, current: false },
];

const api: Plugin = {
  name: "api",
  configurePreviewServer(server) {
    server.middlewares.use((request, response, next) => {
      response.setHeader("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'");
      if (request.url === "/api/sessions") {
        response.setHeader("Content-Type", "application/json");
        return response.end(JSON.stringify({ sessions }));
      }
      if (request.url !== "/api/me") return next();
      const out = request.headers.cookie?.includes("out=1");
      response.setHeader("Content-Type", "application/json");
      response.statusCode = out ? 401 : 200;
      response.end(JSON.stringify(out ? { ...me, error: "sign in first", address: undefined } : me));
    });
  },
};

export default defineConfig({
  root: fileURLToPath(new URL("../..", import.meta.url)),
  resolve: { alias: [{ find: /^\.\/wave\/start$/, replacement: fileURLToPath(new URL("client.ts", import.meta.url)) }] },
  build: { target: "es2022", outDir: "dist-screens", modulePreload: { polyfill: false } },
  preview: { port: 4179, host: "127.0.0.1", strictPort: true },
  plugins: [api],
});
