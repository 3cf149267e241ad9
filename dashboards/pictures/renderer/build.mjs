// Bundles app.tsx for the browser; what no panel here needs (editors, maps) is left out.
import { build } from 'esbuild';

const none = {
  name: 'none',
  setup(plugin) {
    plugin.onResolve({ filter: /^(monaco-editor|ol(\/.*)?|@monaco-editor\/.*)$/ }, ({ path }) => ({ path, namespace: 'none' }));
    plugin.onLoad({ filter: /.*/, namespace: 'none' }, () => ({ contents: 'module.exports = new Proxy({}, {get: () => () => null})', loader: 'js' }));
  },
};

await build({
  entryPoints: ['app.tsx'],
  outfile: 'out/app.js',
  bundle: true,
  format: 'iife',
  platform: 'browser',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"', global: 'window', 'process.env': '{}' },
  loader: { '.svg': 'dataurl', '.png': 'dataurl', '.woff2': 'dataurl', '.ttf': 'dataurl', '.css': 'css' },
  plugins: [none],
  logLevel: 'error',
});
