/** How the client is built: one page, no source of any other host. */
import { defineConfig } from "vite";

export default defineConfig({
  build: { target: "es2022", sourcemap: false },
});
