{
  # CMakeLists.txt is the build. This target only hands over to it, so that node-gyp, prebuildify and node-gyp-build work.
  "targets": [
    {
      "target_name": "rlvr_kernels",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "message": "Building rlvr_kernels with CMake",
          "inputs": [
            "CMakeLists.txt",
            "<!@(node install/build-addon.mjs --list-sources)"
          ],
          "outputs": ["<(PRODUCT_DIR)/rlvr_kernels.node"],
          "action": ["node", "install/build-addon.mjs", "--product", "<(PRODUCT_DIR)"]
        }
      ]
    }
  ]
}
